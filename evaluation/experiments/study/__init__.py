"""A study on rendered people: many small federations under controlled shifts, with intervals over people and seeds."""
