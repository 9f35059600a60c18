"""The manager: journals what is intended, carries plans out, verifies. Only the manager changes a host."""
