/** The attribute that has the capabilities of a program (capabilities(7)). */
export const CAPABILITY = 'security.capability';
/** `struct vfs_cap_data`, little-endian: VFS_CAP_REVISION_2 and effective, CAP_NET_RAW permitted, nothing else. */
export const MAY_USE_RAW_SOCKETS = new Uint8Array(
  Buffer.from('0100000200200000000000000000000000000000', 'hex'),
);
/** The same with CAP_CHOWN instead. */
export const MAY_CHANGE_OWNERS = new Uint8Array(
  Buffer.from('0100000201000000000000000000000000000000', 'hex'),
);
