import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';

const PAGE = 4096;
const READ = { prot: 'PROT_READ', flags: 'MAP_SHARED' };

guestTest('pages cached before are never served in passthrough mode (D10)', async (t, guest) => {
  await using fuse = await mountWithModes(guest, { attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'old contents' });
  const cached = await openAs(client, fuse, { name: 'f', mode: 'keep-cache' });
  t.is(text(await client.pread({ fd: cached, count: 100, offset: 0 })), 'old contents');
  await client.close({ fd: cached });
  const filled = (await fuse.dataRequests()).length;
  t.true(filled > 0, 'the cache was filled by READ');

  await client.writeFile({ path: fuse.backing('f'), data: 'new contents', flags: 'O_WRONLY' });
  const id = await register(fuse, 'f');
  const fd = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id });
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'new contents', 'read');
  const map = await client.mmap({ fd, length: PAGE, ...READ });
  t.is(text(await client.mread({ map, offset: 0, length: 12 })), 'new contents', 'mapping');
  await client.munmap({ map });
  await client.close({ fd });
  t.is((await fuse.dataRequests()).length, filled);
});

guestTest('a cached open after passthrough writes reads what was written (D11)', async (t, guest) => {
  await using fuse = await mountWithModes(guest, { attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'old contents' });
  const before = await openAs(client, fuse, { name: 'f', mode: 'cached' });
  t.is(text(await client.pread({ fd: before, count: 100, offset: 0 })), 'old contents');
  await client.close({ fd: before });

  const id = await register(fuse, 'f');
  const fd = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id });
  await client.pwrite({ fd, data: 'new contents, and longer', offset: 0 });
  await client.close({ fd });
  const after = await openAs(client, fuse, { name: 'f', mode: 'cached' });
  t.is(text(await client.pread({ fd: after, count: 100, offset: 0 })), 'new contents, and longer');
  await client.close({ fd: after });
});

guestTest(
  'cached, passthrough and cached again: each mode in its turn, with its own requests (D1)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    const data = pattern(2 * PAGE);
    await client.writeFile({ path: fuse.backing('f'), data });
    const id = await register(fuse, 'f');

    for (const mode of ['cached', 'passthrough', 'direct', 'passthrough', 'cached'] as const) {
      const after = await fuse.position();
      const fd = await openAs(client, fuse, { name: 'f', mode, id });
      await client.pwrite({ fd, data: mode, offset: 100 });
      const back = text(await client.pread({ fd, count: mode.length, offset: 100 }));
      await client.close({ fd });
      t.is(back, mode);
      const seen = await fuse.opcodes({ opcode: 'WRITE', after });
      t.deepEqual(seen, mode === 'passthrough' ? [] : ['WRITE'], mode);
      const backing = (await client.readFile({ path: fuse.backing('f') })).subarray(100);
      t.is(text(backing.subarray(0, mode.length)), mode);
    }
  },
);

const HOUR_S = 3600;
const LENGTH = 3 * PAGE;

/** Calls on a file that is in the cache and has changed behind FUSE, and whether it is read anew after them. */
const CALLS: Readonly<
  Record<
    string,
    readonly [call: (client: Client, fd: number, fuse: FuseMount) => Promise<unknown>, anew: boolean]
  >
> = {
  'a truncation to less': [(client, fd) => client.ftruncate({ fd, length: 2 * PAGE }), true],
  'a truncation to more': [(client, fd) => client.ftruncate({ fd, length: 4 * PAGE }), true],
  'a truncation to the size that it has': [(client, fd) => client.ftruncate({ fd, length: LENGTH }), false],
  'a change of its mode': [(client, fd) => client.fchmod({ fd, mode: 0o600 }), false],
  'a change of its mode, by which it is found to be longer': [
    async (client, fd, fuse) => {
      await client.truncate({ path: fuse.backing('f'), length: LENGTH + 1 });
      await client.fchmod({ fd, mode: 0o600 });
    },
    true,
  ],
};

guestTest(
  'what is left of a cached file is read anew once it has another size, and not before',
  async (t, guest) => {
    for (const [what, [call, anew]] of Object.entries(CALLS)) {
      // With AUTO_INVAL_DATA every read asks, and pages would go by what it is told.
      const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
      await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: HOUR_S, init });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'o'.repeat(LENGTH) });
      await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      await client.pread({ fd, count: LENGTH, offset: 0 });
      await client.writeFile({ path: fuse.backing('f'), data: 'n'.repeat(PAGE), flags: 'O_WRONLY' });
      t.is(text(await client.pread({ fd, count: 1, offset: 0 })), 'o', `${what}: it is kept before`);
      await call(client, fd, fuse);
      t.is(text(await client.pread({ fd, count: 1, offset: 0 })), anew ? 'n' : 'o', what);
      await client.close({ fd });
    }
  },
);
