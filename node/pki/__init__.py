"""Certificates, trust decisions and the federation authority."""
