"""From providers' usage objects to `Usage`, without importing their SDKs."""
