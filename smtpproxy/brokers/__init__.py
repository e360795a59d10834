"""Which broker carries the rings, and what each needs (QUE-1): `embedded`, `redis`, `sqs`, `rabbitmq`."""
