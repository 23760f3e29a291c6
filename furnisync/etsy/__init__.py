"""Etsy's Open API: client, typed objects, quota ledger, taxonomy."""
