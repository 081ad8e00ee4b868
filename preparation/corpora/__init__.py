"""Where clips come from: a rendered studio, and readers of real corpora."""
