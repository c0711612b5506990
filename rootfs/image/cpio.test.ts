import { execFileSync } from 'node:child_process';
import test from 'ava';
import { cpioArchive } from './cpio.ts';

const SYSTEM_CPIO = ['/usr/bin/busybox', '/bin/busybox'];

function listing(archive: Uint8Array): string {
  for (const busybox of SYSTEM_CPIO) {
    try {
      return execFileSync(busybox, ['cpio', '-tv'], { input: archive, encoding: 'utf8', stdio: 'pipe' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error('busybox-static is not installed');
}

test('cpio: header of a file is the newc header byte for byte', (t) => {
  const bytes = cpioArchive([{ kind: 'file', path: 'a', mode: 0o600, content: Buffer.from('hello') }]);
  const text = Buffer.from(bytes).toString('latin1');
  t.is(
    text.slice(0, 110),
    '070701' +
      '00000001' + // inode
      '00008180' + // regular file, 0600
      '00000000' + // uid
      '00000000' + // gid
      '00000001' + // links
      '00000000' + // time
      '00000005' + // size
      '00000000' + // device
      '00000000' +
      '00000000' + // rdev
      '00000000' +
      '00000002' + // name with its NUL
      '00000000', // checksum
  );
  t.is(text.slice(110, 112), 'a\0');
  t.is(text.slice(112, 120), 'hello\0\0\0');
  t.true(text.includes('TRAILER!!!\0'));
});

test('cpio: every archive ends at a multiple of four, so that a second one can follow', (t) => {
  for (const length of [0, 1, 2, 3, 4, 5]) {
    const bytes = cpioArchive([
      { kind: 'file', path: 'x'.repeat(length + 1), mode: 0o644, content: Buffer.alloc(length) },
    ]);
    t.is(bytes.byteLength % 4, 0);
  }
});

test('cpio: busybox lists what was written', (t) => {
  const lines = listing(
    cpioArchive([
      { kind: 'directory', path: 'bin', mode: 0o755 },
      { kind: 'file', path: 'bin/tool', mode: 0o755, content: Buffer.from('#!') },
      { kind: 'symlink', path: 'bin/sh', target: 'tool' },
      { kind: 'directory', path: 'dev', mode: 0o755 },
      { kind: 'character-device', path: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    ]),
  );
  t.regex(lines, /^drwxr-xr-x .* bin$/m);
  t.regex(lines, /^-rwxr-xr-x .* 2 .* bin\/tool$/m);
  t.regex(lines, /^lrwxrwxrwx .* bin\/sh -> tool$/m);
  t.regex(lines, /^crw------- .* dev\/console$/m);
});

test('cpio: a device carries its numbers in the rdev fields', (t) => {
  const bytes = cpioArchive([{ kind: 'character-device', path: 'c', mode: 0o600, major: 5, minor: 1 }]);
  t.is(Buffer.from(bytes).toString('latin1', 6 + 9 * 8, 6 + 11 * 8), '0000000500000001');
});

test('cpio: equal entries give equal bytes', (t) => {
  const entries = [{ kind: 'file', path: 'a', mode: 0o644, content: Buffer.from('x') }] as const;
  t.deepEqual(cpioArchive(entries), cpioArchive(entries));
});

test('cpio: paths that an archive cannot hold are refused', (t) => {
  for (const path of ['', '/etc/passwd', 'a\0b']) {
    t.throws(() => cpioArchive([{ kind: 'directory', path, mode: 0o755 }]), { instanceOf: RangeError });
  }
});
