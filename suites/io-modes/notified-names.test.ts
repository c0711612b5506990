import { bytes, concat, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ENTRY, entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What the kernel has of names and pages when the server says, or does, something else. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const WITHOUT_INVAL = {
  passthrough: 'off',
  attrValidS: LONG,
  entryValidS: LONG,
  init: { dropFlags: ['AUTO_INVAL_DATA'] },
} as const;

guestTest('DELETE of a name that is known not to be there has it looked up again', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: LONG });
  await using client = await guest.client();
  const body = entryAnswer({ nodeid: 0n, entryValidS: LONG });
  const takeBack = await fuse.rule({ match: { opcode: 'LOOKUP' }, action: { do: 'body', body } });
  const look = (): Promise<string> => client.errno.stat({ path: fuse.file('f') });
  t.is(await look(), 'ENOENT');
  await takeBack();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  t.is(await look(), 'ENOENT', 'which counts');
  const parentAndChild = new Uint8Array(24 + 2);
  const view = new DataView(parentAndChild.buffer);
  view.setBigUint64(ENTRY.nodeid, 1n, true);
  view.setBigUint64(8, 12_345n, true);
  view.setUint32(16, 1, true);
  parentAndChild.set(Buffer.from('f\0'), 24);
  t.is(await fuse.notify({ code: 'DELETE', body: parentAndChild }), 'ok');
  t.is(await look(), 'ok');
});

guestTest(
  'a name of a directory that is in memory without a name of its own is unknown',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    await client.writeFile({ path: fuse.backing('d/f'), data: 'contents' });
    await client.stat({ path: fuse.file('d/f') });
    const fd = await client.inotify_init({});
    await client.inotify_add_watch({ fd, path: fuse.file('d'), mask: 'IN_MODIFY' });
    t.is(await fuse.notify({ parent: '/d', name: 'f' }), 'ok', 'while it has a name');
    await client.stat({ path: fuse.file('d/f') });
    t.is(await fuse.notify({ parent: '/', name: 'd' }), 'ok');
    t.is(await fuse.notify({ parent: '/d', name: 'f' }), 'ENOENT', 'when only a watch has it');
    t.is(text(await client.readFile({ path: fuse.file('d/f') })), 'contents', 'the mount works on');
    await client.close({ fd });
  },
);

/** The flags of the open that creates, the server’s and its version of O_TRUNC, and what is read of the file then. */
const CREATES: readonly (readonly [flags: string, openFlags: number, atomic: boolean, seen: string])[] = [
  ['O_RDWR|O_CREAT', 0, true, 'new'],
  ['O_RDWR|O_CREAT', OpenFlag.KEEP_CACHE, true, 'old'],
  ['O_RDWR|O_CREAT', OpenFlag.KEEP_CACHE, false, 'old'],
  ['O_RDWR|O_CREAT|O_TRUNC', 0, true, ''],
  ['O_RDWR|O_CREAT|O_TRUNC', OpenFlag.KEEP_CACHE, true, ''],
];

async function firstOf(client: Client, fd: number): Promise<string> {
  return text(await client.pread({ fd, count: 3, offset: 0 }));
}

guestTest(
  'an open that creates, and finds a file that is in the cache, keeps its pages as the server says',
  async (t, guest) => {
    for (const [flags, openFlags, atomic, seen] of CREATES) {
      const dropFlags = ['AUTO_INVAL_DATA', ...(atomic ? [] : (['ATOMIC_O_TRUNC'] as const))] as const;
      await using fuse = await guest.mountFuse({ ...WITHOUT_INVAL, init: { dropFlags } });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'old' });
      await client.link({ from: fuse.backing('f'), to: fuse.backing('g') });
      await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      t.is(await firstOf(client, fd), 'old');
      await client.writeFile({ path: fuse.backing('f'), data: 'new', flags: 'O_WRONLY' });
      t.is(await firstOf(client, fd), 'old', 'in the cache');
      await fuse.fail({ opcode: 'LOOKUP', path: '/g' }, 'ENOENT', 1);
      await fuse.answerOpen('CREATE', { openFlags });
      const made = await client.open({ path: fuse.file('g'), flags });
      const how = `${flags}, open_flags ${openFlags}${atomic ? '' : ', without ATOMIC_O_TRUNC'}`;
      t.is(await firstOf(client, fd), seen, how);
      t.is(await firstOf(client, made), seen, how);
      for (const each of [made, fd]) await client.close({ fd: each });
    }
  },
);

guestTest('a file that DELETE takes away has no link left, however many names it had', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG, entryValidS: LONG });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await client.link({ from: fuse.backing('f'), to: fuse.backing('g') });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const links = async (): Promise<number> => (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).nlink;
  t.is(await links(), 2, 'two names');
  const child = BigInt(await fuse.nodeid('/f'));
  const body = concat(u64(1n), u64(child), u32(1), u32(0), bytes('f\0'));
  t.is(await fuse.notify({ code: 'DELETE', body }), 'ok');
  t.is(await links(), 0, 'one of which DELETE has taken away');
  await client.close({ fd });
});
