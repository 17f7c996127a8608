"""The contract, generated from protos/tenantry/v1 by `make proto`. Do not edit."""
