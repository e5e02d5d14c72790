"""The archive of maps that is handed in: ``build`` writes it, ``check`` looks at any."""
