"""What the encryption of payloads costs where nobody encrypts."""
