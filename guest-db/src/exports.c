__attribute__((export_name("kv_abi_version"))) int kv_abi_version(void);
int kv_abi_version(void) { return 1; }
