import type { Expectations } from './expectations.ts';

/** What a file is that somebody wants to register. */
export type BackingKind =
  | 'file on ext4'
  | 'file on tmpfs'
  | 'memfd'
  | 'memfd of huge pages'
  | 'unlinked file'
  | 'file without a name'
  | 'O_PATH descriptor'
  | 'file of sysfs'
  | 'file of procfs'
  | 'directory'
  | 'symbolic link'
  | 'named pipe'
  | 'pipe'
  | 'socket'
  | 'eventfd'
  | 'character device'
  | 'block device'
  | 'closed descriptor';

/** Outcomes of calls on a FUSE file that is backed by it: `ok` or the errno. */
export interface BackingUse {
  /** open(2) with these flags. */
  readonly opens: { readonly O_RDONLY: string; readonly O_RDWR: string; readonly 'O_RDWR|O_DIRECT': string };
  /** pread(2) and pwrite(2) on the descriptor that may do most. */
  readonly read: string;
  readonly write: string;
  /** A shared mapping for reading. */
  readonly map: string;
}

export interface BackingRow {
  readonly kind: BackingKind;
  /** `ok` or the errno of registering it. */
  readonly register: string;
  /** None for what is refused, and for what is no file: see special-lower. */
  readonly use?: BackingUse;
}

const ALL_OK: BackingUse = {
  opens: { O_RDONLY: 'ok', O_RDWR: 'ok', 'O_RDWR|O_DIRECT': 'ok' },
  read: 'ok',
  write: 'ok',
  map: 'ok',
};

/** sysfs lets nobody write this file, has no direct I/O and no mmap. */
function sysfsUse({ reopensBackingFile, mapsBackingFile }: Expectations): BackingUse {
  // A kernel that opens the backing file anew finds out at open(2), the other one at the write.
  const refused = reopensBackingFile ? 'EIO' : 'ok';
  return {
    opens: { O_RDONLY: 'ok', O_RDWR: refused, 'O_RDWR|O_DIRECT': refused },
    read: 'ok',
    write: 'EBADF',
    map: mapsBackingFile ? 'ENODEV' : 'ok',
  };
}

export function backingRows(expected: Expectations): readonly BackingRow[] {
  const pathOnly: BackingRow = { kind: 'O_PATH descriptor', register: expected.pathOnlyFd };
  return [
    { kind: 'file on ext4', register: 'ok', use: ALL_OK },
    { kind: 'file on tmpfs', register: 'ok', use: ALL_OK },
    { kind: 'memfd', register: 'ok', use: ALL_OK },
    { kind: 'unlinked file', register: 'ok', use: ALL_OK },
    { kind: 'file without a name', register: 'ok', use: ALL_OK },
    expected.pathOnlyFd === 'ok' ? { ...pathOnly, use: ALL_OK } : pathOnly,
    { kind: 'file of sysfs', register: 'ok', use: sysfsUse(expected) },
    // Both say of themselves that they are as deep as can be.
    { kind: 'memfd of huge pages', register: expected.procFile },
    { kind: 'file of procfs', register: expected.procFile },
    { kind: 'directory', register: expected.directory },
    { kind: 'symbolic link', register: expected.symbolicLink },
    { kind: 'named pipe', register: expected.pipe },
    { kind: 'pipe', register: expected.pipe },
    { kind: 'socket', register: expected.socket },
    { kind: 'eventfd', register: expected.eventfd },
    { kind: 'character device', register: expected.characterDevice },
    { kind: 'block device', register: expected.characterDevice },
    { kind: 'closed descriptor', register: expected.badFd },
  ];
}
