"""The command line of the operators: tenantry NOUN VERB."""
