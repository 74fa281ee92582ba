"""Runs that were made before: sent later, built again, compared."""
