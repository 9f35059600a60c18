"""The demonstration: domicile's main job on an embedded simulated host, start to finish."""
