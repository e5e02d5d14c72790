"""Kedro pipelines: thin verbs over the packages below."""
