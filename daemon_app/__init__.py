"""The application: jobs, runs, the daemon and its pages."""
