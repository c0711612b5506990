import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag, type OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';

/** The server without passthrough is an ordinary file system: what the other tests take for granted. */

guestTest('without passthrough: names, links and attributes', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const at = (name: string): string => fuse.file(`d/${name}`);
  await client.mkdir({ path: fuse.file('d') });
  await client.writeFile({ path: at('a'), data: 'aaa' });
  await client.link({ from: at('a'), to: at('b') });
  await client.symlink({ target: 'a', path: at('s') });
  await client.rename({ from: at('b'), to: at('c') });
  await client.writeFile({ path: at('x'), data: 'xxx' });
  await client.rename({ from: at('x'), to: at('c'), flags: 'RENAME_EXCHANGE' });

  t.is(text(await client.readFile({ path: at('c') })), 'xxx');
  t.is(text(await client.readFile({ path: at('x') })), 'aaa');
  t.is(await client.readlink({ path: at('s') }), 'a');
  t.deepEqual(await client.readdir({ path: fuse.file('d') }), ['a', 'c', 's', 'x']);
  await client.chown({ path: at('a'), uid: 5, gid: 6 });
  await client.utimens({ path: at('a'), atimeNs: 1e18, mtimeNs: 2e18 });
  await client.truncate({ path: at('a'), length: 100 });
  const stat = await client.stat({ path: fuse.backing('d/a') });
  t.like(stat, { uid: 5, gid: 6, atimeNs: 1e18, size: 100, nlink: 2 });
  t.is(await client.errno.rmdir({ path: fuse.file('d') }), 'ENOTEMPTY');
  for (const name of ['a', 'c', 's', 'x']) await client.unlink({ path: at(name) });
  await client.rmdir({ path: fuse.file('d') });
  t.is(await client.errno.stat({ path: fuse.file('d') }), 'ENOENT');
});

guestTest('without passthrough: a directory of several answers', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const names = Array.from({ length: 200 }, (_none, index) => `a-rather-long-file-name-${1000 + index}`);
  for (const name of names) await client.writeFile({ path: fuse.backing(name), data: '' });
  t.deepEqual(await client.readdir({ path: fuse.path }), names);
});

guestTest('without passthrough: data, space and extended attributes', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const data = pattern(300_000);
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
  const other = await client.open({ path: fuse.file('g'), flags: 'O_RDWR|O_CREAT' });

  t.is(await client.pwrite({ fd, data, offset: 0 }), data.length);
  await client.fsync({ fd });
  t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), data), undefined);
  const copy = { fdIn: fd, offIn: 5000, fdOut: other, offOut: 0, length: 1000 };
  t.is(await client.copy_file_range(copy), 1000);
  t.is(firstDifference(await client.readFile({ path: fuse.file('g') }), data.slice(5000, 6000)), undefined);
  await client.fallocate({ fd, offset: 0, length: 400_000 });
  t.is((await client.fstat({ fd })).size, 400_000);
  const path = fuse.file('f');
  await client.setxattr({ path, name: 'trusted.word', data: 'value' });
  t.is(text(await client.getxattr({ path: fuse.backing('f'), name: 'trusted.word' })), 'value');
  t.deepEqual(await client.listxattr({ path }), ['trusted.word']);
  await client.removexattr({ path, name: 'trusted.word' });
  t.is(await client.errno.getxattr({ path, name: 'trusted.word' }), 'ENODATA');
});

guestTest('without passthrough: locks that the server keeps', async (t, guest) => {
  const init = { addFlags: ['POSIX_LOCKS', 'FLOCK_LOCKS'] } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  await using one = await guest.client();
  await using other = await guest.client();
  const fd = await one.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
  const second = await other.open({ path: fuse.file('f'), flags: 'O_RDWR' });

  await one.setlk({ fd, type: 'F_WRLCK', start: 0, length: 10 });
  const wanted = { fd: second, type: 'F_WRLCK', start: 5, length: 1 } as const;
  t.is(await other.errno.setlk(wanted), 'EAGAIN');
  t.like(await other.getlk(wanted), { type: 'F_WRLCK', start: 0, length: 10, pid: one.pid });
  const waiting = other.setlk({ ...wanted, wait: true });
  await fuse.waitFor('SETLKW', 'arrived');
  await one.setlk({ fd, type: 'F_UNLCK', start: 0, length: 0 });
  t.is(await waiting, 0);
  await one.flock({ fd, operation: 'LOCK_EX' });
  t.is(await other.errno.flock({ fd: second, operation: 'LOCK_EX|LOCK_NB' }), 'EAGAIN');
});

guestTest('without passthrough: a file without a name, and one that has lost it', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.path, flags: 'O_TMPFILE|O_RDWR' });
  await client.write({ fd, data: 'nameless' });
  await client.linkFd({ fd, to: fuse.file('named') });
  t.is(text(await client.readFile({ path: fuse.backing('named') })), 'nameless');

  await client.unlink({ path: fuse.file('named') });
  t.is(text(await client.pread({ fd, count: 10, offset: 0 })), 'nameless');
  await client.ftruncate({ fd, length: 4 });
  t.like(await client.fstat({ fd }), { nlink: 0, size: 4 });
});

/** Calls that go on without a server that answers ENOSYS, and what they are then. */
const DISPENSABLE: Partial<
  Readonly<Record<OpcodeName, readonly [(client: Client, fd: number) => Promise<unknown>, unknown]>>
> = {
  FLUSH: [async (client, fd) => client.errno.close({ fd: await client.dup({ fd }) }), 'ok'],
  FSYNC: [(client, fd) => client.errno.fsync({ fd }), 'ok'],
  LSEEK: [(client, fd) => client.lseek({ fd, offset: 3, whence: 'SEEK_DATA' }), 3],
  FALLOCATE: [(client, fd) => client.errno.fallocate({ fd, offset: 0, length: 100 }), 'EOPNOTSUPP'],
};

for (const passthrough of ['off', 'auto'] as const) {
  guestTest(
    `what a server does not know it is asked once, with passthrough ${passthrough}`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      for (const [opcode, [call, outcome]] of Object.entries(DISPENSABLE)) {
        const match = { opcode: opcode as OpcodeName };
        await fuse.fail(match, 'ENOSYS');
        for (const time of ['first', 'second', 'third']) {
          t.is(await call(client, fd), outcome, `${opcode}: the ${time} call`);
        }
        t.is((await fuse.requests(match)).length, 1, `${opcode} is not asked again`);
      }
      await client.close({ fd });
    },
  );
}

guestTest(
  'for a server without LSEEK a file is data up to the size that the server tells now',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await fuse.fail('LSEEK', 'ENOSYS');
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const hole = () => client.lseek({ fd, offset: 0, whence: 'SEEK_HOLE' });
    t.is(await hole(), 8);
    await client.writeFile({ path: fuse.backing('f'), data: ' and more', flags: 'O_WRONLY|O_APPEND' });
    t.is(await hole(), 17, 'after it has grown there');
    t.is(await client.errno.lseek({ fd, offset: 17, whence: 'SEEK_DATA' }), 'ENXIO', 'and nothing behind');
    await client.close({ fd });
  },
);

for (const passthrough of ['off', 'auto'] as const) {
  guestTest(
    `a server without CREATE is asked for MKNOD and OPEN, with passthrough ${passthrough}`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough });
      await using client = await guest.client();
      await fuse.fail('CREATE', 'ENOSYS');
      for (const name of ['first', 'second']) {
        const path = fuse.file(name);
        const fd = await client.open({ path, flags: 'O_RDWR|O_CREAT|O_EXCL', mode: 0o600 });
        await client.write({ fd, data: name });
        await client.close({ fd });
        t.is(text(await client.readFile({ path: fuse.backing(name) })), name);
        t.is((await client.stat({ path })).mode & 0o777, 0o600, name);
        t.is(await client.errno.open({ path, flags: 'O_RDWR|O_CREAT|O_EXCL' }), 'EEXIST', name);
      }
      const sent = await fuse.opcodes({ opcode: ['CREATE', 'MKNOD', 'OPEN'] });
      t.deepEqual(sent, ['CREATE', 'MKNOD', 'OPEN', 'MKNOD', 'OPEN'], 'CREATE is not asked again');
    },
  );
}

/** Every way of making a name, by the request that tells of it. */
const MAKING: Readonly<Record<string, (client: Client, fuse: FuseMount, path: string) => Promise<unknown>>> =
  {
    CREATE: async (client, _fuse, path) =>
      client.close({ fd: await client.open({ path, flags: 'O_RDWR|O_CREAT|O_EXCL' }) }),
    MKNOD: (client, _fuse, path) => client.mknod({ path, mode: 0o100_600 }),
    MKDIR: (client, _fuse, path) => client.mkdir({ path }),
    SYMLINK: (client, _fuse, path) => client.symlink({ target: 'anywhere', path }),
    LINK: (client, fuse, path) => client.link({ from: fuse.file('f'), to: path }),
  };

guestTest(
  'a name that was just made is not looked up while it counts, however it was made',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: 1000 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.stat({ path: fuse.file('f') });
    for (const [opcode, make] of Object.entries(MAKING)) {
      const path = fuse.file(opcode);
      await make(client, fuse, path);
      const after = await fuse.position();
      await client.lstat({ path });
      t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP', after }), [], opcode);
    }
  },
);

guestTest('an open with O_CREAT of a file that there is is OPEN, without O_CREAT', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 1000 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await client.stat({ path: fuse.file('f') });
  const after = await fuse.position();
  await client.close({ fd: await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT|O_NOCTTY' }) });
  const opened = await fuse.requests({ opcode: ['LOOKUP', 'CREATE', 'OPEN'], after });
  t.deepEqual(
    opened.map(({ opcode, args }) => [opcode, openFlagNames(args['flags'])]),
    [['OPEN', 'O_RDWR']],
  );
});

guestTest('a server without TMPFILE is asked once, and O_TMPFILE is EOPNOTSUPP', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await fuse.fail('TMPFILE', 'ENOSYS');
  for (const time of ['first', 'second']) {
    t.is(await client.errno.open({ path: fuse.path, flags: 'O_TMPFILE|O_RDWR' }), 'EOPNOTSUPP', time);
  }
  t.deepEqual(await fuse.opcodes({ opcode: ['TMPFILE', 'CREATE', 'MKNOD'] }), ['TMPFILE']);
});

guestTest('without passthrough: files that have no position', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  for (const [what, openFlags] of [
    ['NONSEEKABLE', OpenFlag.NONSEEKABLE],
    ['STREAM', OpenFlag.STREAM],
  ] as const) {
    await fuse.answerOpen('OPEN', { openFlags }, 1);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(await client.errno.lseek({ fd, offset: 3, whence: 'SEEK_SET' }), 'ESPIPE', `${what}: lseek`);
    t.is(await client.errno.pread({ fd, count: 3, offset: 3 }), 'ESPIPE', `${what}: pread`);
    t.is(text(await client.read({ fd, count: 3 })), 'con', `${what}: read`);
    await client.close({ fd });
  }
});

guestTest('without passthrough: directories that have no position', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '' });
  for (const [what, openFlags, errno] of [
    ['NONSEEKABLE', OpenFlag.NONSEEKABLE, 'ESPIPE'],
    ['STREAM', OpenFlag.STREAM, 'ESPIPE'],
    ['nothing', 0, 'ok'],
  ] as const) {
    await fuse.answerOpen('OPENDIR', { openFlags }, 1);
    const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    t.is(await client.errno.lseek({ fd, offset: 0, whence: 'SEEK_SET' }), errno, `${what}: lseek`);
    t.deepEqual(await client.readdirFd({ fd, bytes: 4096 }), ['.', '..', 'f'], `${what}: a list`);
    await client.close({ fd });
  }
});

guestTest('without passthrough: a stream is written to while a read of it waits', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  for (const [what, more] of [
    ['STREAM', 0],
    ['STREAM and NONSEEKABLE', OpenFlag.NONSEEKABLE],
  ] as const) {
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    // In direct mode, so that no pages are in the way.
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.STREAM | OpenFlag.DIRECT_IO | more }, 1);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const other = await client.dup({ fd });
    const hold = await fuse.hold('READ');
    const reading = client.read({ fd, count: 8 });
    reading.catch(() => undefined);
    const held = await hold.arrived();
    t.is(await client.write({ fd: other, data: 'CON' }), 3, `${what}: no lock of a position`);
    await hold.stop();
    await hold.release(held);
    t.is(text(await reading), 'CONtents', what);
    for (const each of [fd, other]) await client.close({ fd: each });
  }
});

guestTest('without passthrough: FALLOCATE is asked for the modes that it has', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
  await client.pwrite({ fd, data: pattern(10_000), offset: 0 });
  const allocate = async (mode: string) => client.errno.fallocate({ fd, mode, offset: 4096, length: 4096 });
  t.is(await allocate('FALLOC_FL_COLLAPSE_RANGE'), 'EOPNOTSUPP');
  t.deepEqual(await fuse.requests('FALLOCATE'), [], 'a mode that FUSE does not have');
  await allocate('FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE');
  t.is((await fuse.requests('FALLOCATE')).length, 1, 'one that it has');
  const seen = await client.pread({ fd, count: 4096, offset: 4096 });
  t.deepEqual(seen, new Uint8Array(4096), 'a hole reads as zeros, whatever was in the cache');
  await client.close({ fd });
});

guestTest('without passthrough: an answer that more was written than was sent is EIO', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const size = new Uint8Array(8);
  size[0] = 100;
  const takeBack = await fuse.rule({ match: { opcode: 'WRITE' }, action: { do: 'body', body: size } });
  t.is(await client.errno.pwrite({ fd, data: 'abc', offset: 0 }), 'EIO');
  await takeBack();
  t.is(await client.pwrite({ fd, data: 'abc', offset: 0 }), 3, 'and the file works on');
  await client.close({ fd });
});

/** `fuse_lk_out`: u64 start, u64 end (the last byte), u32 type, u32 pid. */
function lockAnswer(start: bigint, end: bigint, type: number): Uint8Array {
  const body = new Uint8Array(24);
  const view = new DataView(body.buffer);
  view.setBigUint64(0, start, true);
  view.setBigUint64(8, end, true);
  view.setUint32(16, type, true);
  return body;
}

/** asm-generic/fcntl.h; the greatest offset is that of off_t. */
const [F_WRLCK, F_UNLCK] = [1, 2];
const OFFSET_MAX = 2n ** 63n - 1n;

guestTest('without passthrough: an answer about a lock that there cannot be is EIO', async (t, guest) => {
  const init = { addFlags: ['POSIX_LOCKS'] } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
  const rows: Readonly<Record<string, readonly [Uint8Array, string]>> = {
    'no lock': [lockAnswer(0n, 0n, F_UNLCK), 'ok'],
    'the last byte that a file can have': [lockAnswer(OFFSET_MAX, OFFSET_MAX, F_WRLCK), 'ok'],
    'a byte beyond it': [lockAnswer(OFFSET_MAX + 1n, OFFSET_MAX + 2n, F_WRLCK), 'EIO'],
    'an end beyond it': [lockAnswer(0n, OFFSET_MAX + 1n, F_WRLCK), 'EIO'],
    'an end before the beginning': [lockAnswer(10n, 9n, F_WRLCK), 'EIO'],
    'a type that there is not': [lockAnswer(0n, 9n, 7), 'EIO'],
  };
  for (const [what, [body, expected]] of Object.entries(rows)) {
    await fuse.rule({ match: { opcode: 'GETLK' }, action: { do: 'body', body } });
    t.is(await client.errno.getlk({ fd, type: 'F_WRLCK', start: 0, length: 10 }), expected, what);
  }
  await client.close({ fd });
});

guestTest('stat tells all twelve bits of a mode, whether the server is asked or not', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 1000 });
  await using client = await guest.client();
  for (const mode of [0o7751, 0o4644, 0o2755, 0o1700]) {
    const name = mode.toString(8);
    await client.writeFile({ path: fuse.backing(name), data: '' });
    await client.chmod({ path: fuse.backing(name), mode });
    for (const flags of ['', 'AT_STATX_FORCE_SYNC', 'AT_STATX_DONT_SYNC']) {
      const { mode: told } = await client.stat({ path: fuse.file(name), flags });
      t.is((told & 0o7777).toString(8), name, flags);
    }
  }
});

guestTest('the mount table shows how FUSE was mounted', async (t, guest) => {
  for (const allowOther of [false, true]) {
    for (const defaultPermissions of [false, true]) {
      const maxRead = 65_536;
      await using fuse = await guest.mountFuse({ allowOther, defaultPermissions, maxRead });
      await using client = await guest.client();
      const options = (await mountedAt(client, fuse.path)).options.split(',');
      const shown = options.filter((option) => !/^(rw|relatime)$/.test(option)).sort();
      const expected = [
        'group_id=0',
        `max_read=${maxRead}`,
        'user_id=0',
        ...(allowOther ? ['allow_other'] : []),
        ...(defaultPermissions ? ['default_permissions'] : []),
      ];
      t.deepEqual(shown, expected.sort());
    }
  }
});
