import type { Client } from '../lib/client.ts';
import { ATTR, ENTRY, u32, u64 } from '../lib/entry-answer.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** Lists that bring attributes with the names: what the kernel takes of them. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const BELIEVED = { passthrough: 'off', entryValidS: LONG, attrValidS: LONG } as const;
/** Every list is one with attributes, not only the first of a directory. */
const ALWAYS = { dropFlags: ['READDIRPLUS_AUTO'] } as const;
const NEVER = { dropFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] } as const;

/** What an entry of one or two letters is long: `fuse_entry_out`, and `fuse_dirent` with the name. */
const ENTRY_BYTES = 128 + 32;
/** The first name behind the two dots. */
const FIRST = 2 * ENTRY_BYTES;

async function mounted(
  guest: TestGuest,
  client: Client,
  init: { readonly dropFlags: readonly ('DO_READDIRPLUS' | 'READDIRPLUS_AUTO')[] } = ALWAYS,
): Promise<{ fuse: FuseMount; asked: (name: string) => Promise<string[]> }> {
  const fuse = await guest.mountFuse({ ...BELIEVED, init });
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await client.mkdir({ path: fuse.backing('g') });
  await client.symlink({ target: 'f', path: fuse.backing('h') });
  const asked = async (name: string): Promise<string[]> => {
    const after = await fuse.position();
    await client.lstat({ path: fuse.file(name) });
    // RELEASEDIR of the list before may come any time.
    return fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], after });
  };
  return { fuse, asked };
}

guestTest(
  'after a list with attributes nothing is asked of its names, after one without them each',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [opcode, init, asks] of [
      ['READDIRPLUS', ALWAYS, []],
      ['READDIR', NEVER, ['LOOKUP']],
    ] as const) {
      const { fuse, asked } = await mounted(guest, client, init);
      await using _fuse = fuse;
      t.deepEqual(await client.readdir({ path: fuse.path }), ['f', 'g', 'h'], opcode);
      const sent = await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'] });
      t.deepEqual([...new Set(sent)], [opcode]);
      for (const name of ['f', 'g', 'h']) t.deepEqual(await asked(name), asks, `${name} after ${opcode}`);
      t.is((await client.stat({ path: fuse.file('f') })).size, 8, opcode);
    }
  },
);

guestTest(
  'a list with attributes makes those of names that are known as the server has them',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, asked } = await mounted(guest, client);
    await using _fuse = fuse;
    for (const name of ['f', 'g']) await client.lstat({ path: fuse.file(name) });
    await client.writeFile({ path: fuse.backing('f'), data: ' and more', flags: 'O_WRONLY|O_APPEND' });
    // Whose name does not count any more then.
    await client.chmod({ path: fuse.file('g'), mode: 0o700 });
    await client.readdir({ path: fuse.path });
    for (const name of ['f', 'g']) t.deepEqual(await asked(name), [], `${name}: nothing is asked`);
    t.is((await client.stat({ path: fuse.file('f') })).size, 17, 'the size that came with the list');
  },
);

guestTest(
  'every list with attributes counts as a lookup of its names, and all are given back',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse } = await mounted(guest, client);
    await using _fuse = fuse;
    for (let time = 0; time < 3; time++) await client.readdir({ path: fuse.path });
    const after = await fuse.position();
    t.is(await fuse.notify({ parent: '/', name: 'f' }), 'ok');
    const forget = await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'], after }, 'arrived');
    t.like(forget, { opcode: 'FORGET', args: { nlookup: 3 } });
    t.deepEqual(
      (await fuse.state()).inodes.filter(({ path }) => path === '/f'),
      [],
      'the server has nothing left of it',
    );
  },
);

guestTest('a name that is another file in a list with attributes leads to that one', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, asked } = await mounted(guest, client);
  await using _fuse = fuse;
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  await client.writeFile({ path: fuse.backing('new'), data: 'another' });
  await client.rename({ from: fuse.backing('new'), to: fuse.backing('f') });
  const { ino } = await client.stat({ path: fuse.backing('f') });
  await client.readdir({ path: fuse.path });
  t.deepEqual(await asked('f'), [], 'nothing is asked');
  t.like(await client.stat({ path: fuse.file('f') }), { ino, size: 7 }, 'the new file');
  t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, 8, 'what is open is the old one');
  await client.close({ fd });
});

guestTest('names for which a program had no room are known by the list all the same', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, asked } = await mounted(guest, client);
  await using _fuse = fuse;
  const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
  // Room for the two dots.
  t.deepEqual(await client.readdirFd({ fd, bytes: 50 }), ['.', '..']);
  for (const name of ['f', 'g', 'h']) t.deepEqual(await asked(name), [], name);
  const rest: string[] = [];
  for (let part = ['']; part.length > 0;) {
    part = await client.readdirFd({ fd, bytes: 50 });
    rest.push(...part);
  }
  t.deepEqual(rest, ['f', 'g', 'h'], 'the names that are told later');
  await client.close({ fd });
});

guestTest(
  'a name in a list whose attributes cannot be is told, given back and looked up',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, asked } = await mounted(guest, client);
    await using _fuse = fuse;
    const at = FIRST + ENTRY.attr + ATTR.mode;
    const bytes = u32(0o644);
    await fuse.rule({ match: { opcode: 'READDIRPLUS' }, times: 1, action: { do: 'patch', at, bytes } });
    t.deepEqual(await client.readdir({ path: fuse.path }), ['f', 'g', 'h'], 'a mode without a type');
    const forget = await fuse.waitFor('FORGET', 'arrived');
    t.is(forget.args['nlookup'], 1);
    t.deepEqual(await asked('f'), ['LOOKUP'], 'of the name nothing is known');
    t.deepEqual(await asked('g'), [], 'of the next one all is');
  },
);

guestTest(
  'a name in a list that comes without a number is told, and looked up when it is wanted',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, asked } = await mounted(guest, client);
    await using _fuse = fuse;
    const at = FIRST + ENTRY.nodeid;
    await fuse.rule({
      match: { opcode: 'READDIRPLUS' },
      times: 1,
      action: { do: 'patch', at, bytes: u64(0n) },
    });
    t.deepEqual(await client.readdir({ path: fuse.path }), ['f', 'g', 'h']);
    t.deepEqual(await asked('f'), ['LOOKUP'], 'of the name nothing is known');
    t.deepEqual(await asked('g'), [], 'of the next one all is');
    t.deepEqual(await fuse.opcodes('FORGET'), [], 'there was nothing to give back');
  },
);

guestTest(
  'a name that is looked up and not there brings no attributes with the rest of a list, one that is there does',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({
      ...BELIEVED,
      init: { addFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] },
    });
    for (const [directory, wanted, rest] of [
      ['one', 'none', 'READDIR'],
      ['other', 'there', 'READDIRPLUS'],
    ] as const) {
      await client.mkdir({ path: fuse.backing(directory) });
      for (const name of ['a', 'b', 'c', 'd']) {
        await client.writeFile({ path: fuse.backing(`${directory}/${name}`), data: name });
      }
      const fd = await client.open({ path: fuse.file(directory), flags: 'O_RDONLY|O_DIRECTORY' });
      // Room for the two dots.
      await client.readdirFd({ fd, bytes: 50 });
      if (wanted === 'there') await client.writeFile({ path: fuse.backing(`${directory}/there`), data: '' });
      const after = await fuse.position();
      await client.errno.stat({ path: fuse.file(`${directory}/${wanted}`) });
      await client.readdirFd({ fd, bytes: 4096 });
      const sent = await fuse.opcodes({ opcode: ['LOOKUP', 'READDIR', 'READDIRPLUS'], after });
      t.deepEqual(sent, ['LOOKUP', rest], `a name that is ${wanted}`);
      await client.close({ fd });
    }
  },
);

guestTest(
  'a name that was looked up brings attributes with one part of a list, be it the first, and not with the rest',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({
      ...BELIEVED,
      init: { addFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] },
    });
    const names = Array.from({ length: 90 }, (_none, at) => `${100 + at}${'-long'.repeat(20)}`);
    for (const [directory, first, sent] of [
      ['before', 'READDIRPLUS', 'READDIR'],
      ['in between', 'READDIRPLUS', 'READDIRPLUS'],
    ] as const) {
      await client.mkdir({ path: fuse.backing(directory) });
      await client.batch({
        calls: names.map((name) => ({
          call: 'mknod' as const,
          args: { path: fuse.backing(`${directory}/${name}`), mode: 0o100_600 },
        })),
        oneThread: true,
      });
      const look = () => client.stat({ path: fuse.file(`${directory}/${names[0] ?? ''}`) });
      if (directory === 'before') await look();
      const fd = await client.open({ path: fuse.file(directory), flags: 'O_RDONLY|O_DIRECTORY' });
      const after = await fuse.position();
      const part = async (): Promise<OpcodeName[]> => {
        const from = await fuse.position();
        await client.readdirFd({ fd, bytes: 8192 });
        return fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after: from }) as Promise<OpcodeName[]>;
      };
      const what = `a name that was looked up ${directory}`;
      t.deepEqual([...new Set(await part())], [first], `${what}: the first part`);
      if (directory === 'in between')
        await client.stat({ path: fuse.file(`${directory}/${names[80] ?? ''}`) });
      t.deepEqual([...new Set(await part())], [sent], `${what}: the second part`);
      t.deepEqual([...new Set(await part())], ['READDIR'], `${what}: the third part`);
      t.true((await fuse.requests({ opcode: 'READDIRPLUS', after })).length > 0);
      await client.close({ fd });
    }
  },
);
