"""Pictures of people: a canvas, and figures on it."""
