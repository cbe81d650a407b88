"""The overview: how an organization's runs have done lately, and how things stand."""
