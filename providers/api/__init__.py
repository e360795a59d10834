"""Endpoints of providers and routing rules."""
