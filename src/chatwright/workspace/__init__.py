"""The server's database and folder: connections, migrations, backup. No torch, and no tables of its own."""
