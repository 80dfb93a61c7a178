"""What the chain is compared with. Never part of it: outside this folder only its training and its job import these."""
