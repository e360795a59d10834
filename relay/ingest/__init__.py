"""The door for RabbitMQ: `SendEmail` messages in, `SendEmailReceived` out (AMQP-1, docs/ingest.md)."""
