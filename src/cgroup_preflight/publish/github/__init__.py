"""GitHub: the job's environment, the runner's files, the API, comments and check runs."""
