import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';
import { needsLastingIds } from '../lib/registration.ts';

/** Orders of events that a race may bring about, each brought about on purpose by answers that are held back. */

const PARALLEL = OpenFlag.DIRECT_IO | OpenFlag.PARALLEL_DIRECT_WRITES;

async function openAnswered(
  client: Client,
  fuse: FuseMount,
  openFlags: number,
  backingId = 0,
): Promise<number> {
  const takeBack = await fuse.answerOpen({ opcode: 'OPEN', path: '/f' }, { openFlags, backingId }, 1);
  try {
    return await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  } finally {
    await takeBack();
  }
}

/** Whether a thread of the process stands in a function of that name. */
function standsIn(guest: TestGuest, client: Client, name: RegExp): Promise<string> {
  return eventually(
    () => guest.where(client.pid),
    (where) => name.test(where),
  );
}

for (const mode of ['direct', 'passthrough-direct'] as const) {
  guestTest(
    `two parallel direct writes are under way at once on a ${mode} file (G5, K09, K10)`,
    async (t, guest) => {
      await using fuse = await mountWithModes(guest);
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
      const passthrough = mode === 'passthrough-direct';
      const id = passthrough ? await register(fuse, 'f') : 0;
      const flags = PARALLEL | (passthrough ? OpenFlag.PASSTHROUGH : 0);
      const fd = await openAnswered(client, fuse, flags, id);
      const hold = await fuse.hold('WRITE');

      const first = client.pwrite({ fd, data: 'ab', offset: 0 });
      const one = await hold.arrived();
      const second = client.pwrite({ fd, data: 'cd', offset: 4 });
      // With an exclusive lock it would not come before the first is answered, and this would run into its deadline.
      const other = await hold.arrived();
      for (const request of [other, one]) await hold.release(request);
      t.deepEqual(await Promise.all([first, second]), [2, 2]);
      await hold.stop();
      t.is(text(await client.readFile({ path: fuse.backing('f') })), 'ab23cd6789');
      await client.close({ fd });
      await fuse.waitFor('RELEASE');
      // K09: the state of the file was spoilt by the first write, and the inode kept its backing file.
      const cached = await openAs(client, fuse, { name: 'f', mode: 'cached' });
      t.is(text(await client.read({ fd: cached, count: 2 })), 'ab', 'a cached open works afterwards');
      const after = await fuse.position();
      await client.close({ fd: cached });
      await fuse.waitFor({ opcode: 'RELEASE', after });
      if (passthrough) t.is(await fuse.server.closeBacking(id), 'ok');
      t.false(await guest.isBackingBusy());
    },
  );
}

guestTest('a cached open waits until parallel direct writes are done (D8, G5)', async (t, guest) => {
  await using fuse = await mountWithModes(guest);
  await using writer = await guest.client();
  await using opener = await guest.client();
  await writer.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  const direct = await openAnswered(writer, fuse, PARALLEL);
  const hold = await fuse.hold('WRITE');
  const write = writer.pwrite({ fd: direct, data: 'ab', offset: 0 });
  const request = await hold.arrived();

  let settled = false;
  const after = await fuse.position();
  const opened = openAnswered(opener, fuse, 0).finally(() => {
    settled = true;
  });
  // Of a test that fails before it looks at this.
  opened.catch(() => undefined);
  await fuse.waitFor({ opcode: 'OPEN', after });
  t.regex(
    await standsIn(guest, opener, /fuse_\w*io_open|fuse_finish_open/),
    /fuse_\w*io_open|fuse_finish_open/,
  );
  t.false(settled, 'the open has not returned while the write is under way');
  await hold.release(request);
  await hold.stop();
  t.is(await write, 2);
  const cached = await opened;
  t.is(text(await opener.pread({ fd: cached, count: 4, offset: 0 })), 'ab23');
  await opener.close({ fd: cached });
  await writer.close({ fd: direct });
});

guestTest('a passthrough open does not wait for direct writes that are under way (D8)', async (t, guest) => {
  await using fuse = await mountWithModes(guest);
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  const direct = await openAnswered(client, fuse, PARALLEL);
  const id = await register(fuse, 'f');
  const hold = await fuse.hold('WRITE');
  const write = client.pwrite({ fd: direct, data: 'ab', offset: 0 });
  const request = await hold.arrived();

  const fd = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id });
  const seen = text(await client.pread({ fd, count: 10, offset: 0 }));
  t.is(seen, '0123456789', 'read past the server while its WRITE is held');
  // Only then: close(2) flushes, and in 6.12 the flush takes the lock that the write has.
  await hold.release(request);
  await hold.stop();
  t.is(await write, 2);
  for (const each of [fd, direct]) await client.close({ fd: each });
  await fuse.server.closeBacking(id);
});

guestTest('an id closed while the answer that names it is on its way is no id (G10)', async (t, guest) => {
  needsLastingIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const id = await register(fuse, 'f');
  const hold = await fuse.hold('OPEN');
  const open = { openFlags: guest.expected.passthroughFlag, backingId: id };

  const opened = client.errno.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const request = await hold.arrived();
  t.is(await fuse.server.closeBacking(id), 'ok');
  await hold.release(request, { do: 'open', open });
  await hold.stop();
  t.is(await opened, 'EIO');
  await fuse.waitFor('RELEASE');
  t.false(await guest.isBackingBusy(), 'the file that was never opened holds nothing');
});

guestTest(
  'BACKING_CLOSE at the same moment as the answer: the open works or is EIO (G10)',
  async (t, guest) => {
    needsLastingIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const hold = await fuse.hold('OPEN');
    const ends = new Set<string>();
    for (let round = 0; round < 12; round++) {
      const id = await register(fuse, 'f');
      const open = { openFlags: guest.expected.passthroughFlag, backingId: id };
      const opened = client.open({ path: fuse.file('f'), flags: 'O_RDWR' }).then(
        async (fd) => {
          const seen = text(await client.pread({ fd, count: 100, offset: 0 }));
          await client.close({ fd });
          return seen;
        },
        (error: unknown) => String((error as { errno?: string }).errno),
      );
      const request = await hold.arrived();
      const [closed] = await Promise.all([
        fuse.server.closeBacking(id),
        hold.release(request, { do: 'open', open }),
      ]);
      t.is(closed, 'ok');
      ends.add(await opened);
      await fuse.waitFor({ opcode: 'RELEASE', after: request.seq });
    }
    await hold.stop();
    t.deepEqual(
      [...ends].filter((each) => each !== 'contents' && each !== 'EIO'),
      [],
    );
    t.false(await guest.isBackingBusy());
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a client killed in an open that becomes passthrough leaves nothing (H10, C15)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using watcher = await guest.client();
    const client = await guest.client();
    await watcher.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const hold = await fuse.hold('OPEN');
    const opened = client.open({ path: fuse.file('f'), flags: 'O_RDWR' }).catch(() => 0);
    const request = await hold.arrived();

    // The signal makes an INTERRUPT; the process stays until the request is answered.
    const killed = client.kill('SIGKILL');
    const interrupt = await fuse.waitFor('INTERRUPT', 'arrived');
    t.is(interrupt.args['unique'], request.unique, 'INTERRUPT names the open');
    await hold.release(request);
    await hold.stop();
    t.is((await killed)?.signal, 'SIGKILL');
    await opened;
    await fuse.waitFor('RELEASE');
    t.deepEqual((await fuse.state()).backingIds, []);
    const after = await fuse.position();
    t.is(text(await watcher.readFile({ path: fuse.file('f') })), 'contents', 'the next open works');
    t.deepEqual(await fuse.dataRequests(), []);
    await fuse.waitFor({ opcode: 'RELEASE', after });
    t.false(await guest.isBackingBusy(), 'nobody holds the backing filesystem');
  },
);

guestTest('two queues of one connection answer passthrough opens alike (G8)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using one = await guest.client();
  await using other = await guest.client();
  await fuse.server.cloneDevice();
  const names = ['p', 'q', 'r', 's'];
  for (const name of names) await one.writeFile({ path: fuse.backing(name), data: `in ${name}` });
  const readAll = (client: Client): Promise<string[]> => {
    return Promise.all(names.map(async (name) => text(await client.readFile({ path: fuse.file(name) }))));
  };
  for (let round = 0; round < 3; round++) {
    const seen = await Promise.all([readAll(one), readAll(other)]);
    t.deepEqual(seen, [names.map((name) => `in ${name}`), names.map((name) => `in ${name}`)]);
  }
  const opens = await fuse.requests('OPEN');
  t.is(opens.length, 2 * 3 * names.length);
  t.deepEqual(
    opens.filter(({ reply }) => reply?.open?.backingId === 0),
    [],
  );
  t.deepEqual(await fuse.dataRequests(), []);
});
