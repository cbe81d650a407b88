"""Reads of the pages that show an organization as a whole: overview, flows, events, schedules."""
