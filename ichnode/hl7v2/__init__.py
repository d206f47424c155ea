"""HL7 version 2 as bytes and text: what sending and listening share. No sockets, no worklist."""
