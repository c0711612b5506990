/** `struct posix_acl_xattr_header` and entries u16 tag, u16 permissions, u32 id: rw for the owner, and for more. */
export function aclFor(
  uids: readonly number[],
  permissions: number,
  gids: readonly number[] = [],
): Uint8Array {
  const anybody = 0xffff_ffff;
  const entries = [
    [1, 6, anybody],
    ...uids.map((uid) => [2, permissions, uid] as const),
    [4, 0, anybody],
    ...gids.map((gid) => [8, permissions, gid] as const),
    [16, permissions, anybody],
    [32, 0, anybody],
  ] as const;
  const view = new DataView(new ArrayBuffer(4 + 8 * entries.length));
  view.setUint32(0, 2, true);
  for (const [index, [tag, allowed, id]] of entries.entries()) {
    view.setUint16(4 + 8 * index, tag, true);
    view.setUint16(6 + 8 * index, allowed, true);
    view.setUint32(8 + 8 * index, id, true);
  }
  return new Uint8Array(view.buffer);
}
