"""What runs on a machine and what is asked of it: domains, snapshots, reservations, requests, intent."""
