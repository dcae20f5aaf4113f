"""GitLab: what the job knows of itself, notes of a merge request, the way of publishing there."""
