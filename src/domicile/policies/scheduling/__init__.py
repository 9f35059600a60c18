"""Affinity that follows memory: where each domain's vCPUs should run, and what holds them there."""
