"""From a live CrewAI program to encoded events: tap → scopes → recorder → pipeline.

The only part of the library, with its listener, that knows CrewAI's classes.
"""
