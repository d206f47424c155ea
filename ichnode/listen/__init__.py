"""The door for HL7 messages: what other systems say of orders, reports and patients."""
