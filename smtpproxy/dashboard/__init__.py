"""What is going on, at a glance: dashboard, analytics, live tail and search (ADM-1, ADM-6)."""
