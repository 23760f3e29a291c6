"""What every database of a home shares: connections, migrations, transactions, the writer."""
