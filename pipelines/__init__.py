"""How work is started and scheduled: definitions, jobs, resources, the command line."""
