/** One thing in an archive. `path` has no leading slash; a file's directories must come before it. */
export type CpioEntry =
  | { readonly kind: 'directory'; readonly path: string; readonly mode: number }
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly content: Uint8Array }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | {
      readonly kind: 'character-device';
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const FILE_TYPE = {
  directory: 0o040000,
  file: 0o100000,
  symlink: 0o120000,
  'character-device': 0o020000,
} as const;

/** Header fields are 8 hexadecimal digits, so no size and no number may be larger. */
const MAX_FIELD = 0xffff_ffff;

/**
 * An archive in the "newc" format that the kernel unpacks as an initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Everything belongs to root and has time 0, so
 * equal entries give equal bytes. Archives may be concatenated if each begins at a multiple of 4, which
 * `cpioArchive` ensures by padding its end.
 */
export function cpioArchive(entries: readonly CpioEntry[]): Uint8Array {
  const parts = entries.flatMap((entry, index) => record(entry, index + 1));
  parts.push(...trailer());
  return Buffer.concat(parts);
}

function record(entry: CpioEntry, inode: number): Buffer[] {
  if (entry.path === '' || entry.path.startsWith('/') || entry.path.includes('\0')) {
    throw new RangeError(`not a path for a cpio archive: ${JSON.stringify(entry.path)}`);
  }
  const permissions = entry.kind === 'symlink' ? 0o777 : entry.mode & 0o7777;
  return member({
    name: entry.path,
    inode,
    mode: FILE_TYPE[entry.kind] | permissions,
    links: entry.kind === 'directory' ? 2 : 1,
    device: entry.kind === 'character-device' ? [entry.major, entry.minor] : [0, 0],
    content: contentOf(entry),
  });
}

function contentOf(entry: CpioEntry): Uint8Array {
  if (entry.kind === 'file') return entry.content;
  return entry.kind === 'symlink' ? Buffer.from(entry.target) : new Uint8Array();
}

function trailer(): Buffer[] {
  return member({
    name: 'TRAILER!!!',
    inode: 0,
    mode: 0,
    links: 1,
    device: [0, 0],
    content: new Uint8Array(),
  });
}

interface Member {
  readonly name: string;
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly device: readonly [major: number, minor: number];
  readonly content: Uint8Array;
}

function member({ name, inode, mode, links, device, content }: Member): Buffer[] {
  const nameBytes = Buffer.from(`${name}\0`);
  const fields = [inode, mode, 0, 0, links, 0, content.byteLength, 0, 0, ...device, nameBytes.byteLength, 0];
  const header = Buffer.from(`070701${fields.map(hex).join('')}`, 'latin1');
  return [
    header,
    nameBytes,
    padding(header.byteLength + nameBytes.byteLength),
    Buffer.from(content),
    padding(content.byteLength),
  ];
}

function hex(value: number): string {
  if (!Number.isSafeInteger(value) || value < 0 || value > MAX_FIELD) {
    throw new RangeError(`${value} does not fit a cpio header`);
  }
  return value.toString(16).padStart(8, '0');
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}
