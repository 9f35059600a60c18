"""What this machine gives to every layer: folders, processes and their liveness, small databases on disk."""
