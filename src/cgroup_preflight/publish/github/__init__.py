"""GitHub: what the job knows of itself, comments, check runs, the way of publishing there."""
