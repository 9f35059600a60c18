"""Moving a domain to other nodes of its host: the ways there are, what each costs, and why one cannot be gone."""
