import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { ATTR, ENTRY, u64 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What is asked about names and links, up to the longest ones, and what becomes of the answer. */

/** FUSE_NAME_MAX, which later versions have made PATH_MAX. Bytes. */
const LONG_NAME = 1024;
/** symlink(2): PATH_MAX without the NUL. Bytes. */
const LONGEST_TARGET = 4095;

/** Calls that look for a name that the server does not have. */
const CALLS: Readonly<Record<string, (client: Client, path: string) => Promise<string>>> = {
  stat: (client, path) => client.errno.stat({ path }),
  unlink: (client, path) => client.errno.unlink({ path }),
  open: (client, path) => client.errno.open({ path, flags: 'O_RDONLY' }),
};

async function lookups(fuse: FuseMount, after: number): Promise<number[]> {
  const requests = await fuse.requests({ opcode: 'LOOKUP', after });
  return requests.map(({ args }) => String(args['name']).length);
}

guestTest(
  'a name of 1024 bytes is asked of the server, and one longer than any path of nobody',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await fuse.fail('LOOKUP', 'ENOENT');
    for (const [what, call] of Object.entries(CALLS)) {
      for (const [length, errno, asked] of [
        [LONG_NAME - 1, 'ENOENT', [LONG_NAME - 1]],
        [LONG_NAME, 'ENOENT', [LONG_NAME]],
        [LONGEST_TARGET + 1, 'ENAMETOOLONG', []],
      ] as const) {
        const after = await fuse.position();
        t.is(await call(client, fuse.file('n'.repeat(length))), errno, `${what} of ${length} bytes`);
        t.deepEqual(await lookups(fuse, after), asked, `${what} of ${length} bytes: LOOKUP`);
      }
    }
  },
);

guestTest('a symbolic link leads where the server says in up to 4095 bytes', async (t, guest) => {
  for (const addFlags of [[], ['CACHE_SYMLINKS']] as const) {
    // Not every ext4 has room for links that long.
    await using fuse = await guest.mountFuse({ root: 'tmpfs', init: { addFlags } });
    await using client = await guest.client();
    const how = `with ${addFlags.join() || 'no flag'}`;
    for (const length of [1, LONGEST_TARGET - 1, LONGEST_TARGET]) {
      const target = 'l'.repeat(length);
      await client.symlink({ target, path: fuse.backing(`to-${length}`) });
      t.is(await client.readlink({ path: fuse.file(`to-${length}`) }), target, `${how}: ${length} bytes`);
    }
    await client.symlink({ target: 'anywhere', path: fuse.backing('longer') });
    const body = new Uint8Array(LONGEST_TARGET + 1).fill(0x6c);
    await fuse.rule({ match: { opcode: 'READLINK', path: '/longer' }, action: { do: 'body', body } });
    t.is(await client.errno.readlink({ path: fuse.file('longer') }), 'EIO', `${how}: longer than any path`);
  }
});

guestTest('a name whose LOOKUP is interrupted stays the name that it was', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 0 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  /** The kernel says of a file whose name it has dropped that it is deleted. */
  const named = (): Promise<string> => client.readlink({ path: `/proc/${client.pid}/fd/${fd}` });
  const after = await fuse.position();
  await fuse.fail('LOOKUP', 'EINTR', 1);
  t.is(await client.errno.stat({ path: fuse.file('f') }), 'EINTR', 'what the caller gets');
  t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP', after }), ['LOOKUP'], 'it is not asked once more');
  t.is(await named(), fuse.file('f'), 'what the kernel has');
  t.is(await client.errno.stat({ path: fuse.file('f') }), 'ok', 'the next call');
  await client.close({ fd });
});

guestTest(
  'a symbolic link that is kept leads where READLINK has said, whatever its size is said to be (CACHE_SYMLINKS)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({
      init: { addFlags: ['CACHE_SYMLINKS'] },
      entryValidS: 1000,
      attrValidS: 1000,
    });
    await using client = await guest.client();
    const target = 'over/there';
    for (const size of [4, 0, 100]) {
      const name = `s${size}`;
      await client.symlink({ target, path: fuse.backing(name) });
      const patch = { do: 'patch', at: ENTRY.attr + ATTR.size, bytes: u64(BigInt(size)) } as const;
      await fuse.rule({ match: { opcode: 'LOOKUP', path: `/${name}` }, action: patch });
      await fuse.fail('READLINK', 'EDQUOT', 1);
      t.is(await client.errno.readlink({ path: fuse.file(name) }), 'EDQUOT', `a size of ${size}: refused`);
      for (const time of ['first', 'second']) {
        t.is(await client.readlink({ path: fuse.file(name) }), target, `a size of ${size}: the ${time} time`);
      }
    }
    t.is((await fuse.requests('READLINK')).length, 6, 'each is asked for until it is known, and not again');
  },
);
