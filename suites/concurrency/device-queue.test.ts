import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { dropCaches } from '../lib/drop-caches.ts';
import { eventually } from '../lib/eventually.ts';
import { Opcode, OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { answerRequest, nextRequest } from '../lib/raw-server.ts';

/** The queue of /dev/fuse, as a server finds it that reads it by itself. */

/** FUSE_MIN_READ_BUFFER: nobody may read with less room, whatever waits. Bytes. */
const LEAST_ROOM = 8192;
/** `fuse_in_header` and `fuse_write_in`, before the data of a WRITE. Bytes. */
const BEFORE_DATA = 40 + 40;

/** Takes the device over from a server that has answered INIT and whatever came since. */
async function takeOver(guest: TestGuest, fuse: FuseMount): Promise<{ server: Client; device: number }> {
  const server = await guest.client();
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  return { server, device };
}

/** Waits until a request waits to be read. @returns what poll says then, or at last. */
function requestQueued(server: Client, device: number): Promise<string> {
  return eventually(
    () => server.poll({ fd: device }),
    (events) => events === 'in|out',
  );
}

guestTest(
  'poll of the device says whether a request waits to be read, and one answer is enough',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const { server, device } = await takeOver(guest, fuse);
    await using _server = server;
    t.is(await server.poll({ fd: device }), 'out', 'nothing waits');
    t.is(await fuse.waiting(), 0);

    const asking = client.errno.stat({ path: fuse.file('f') });
    t.is(await requestQueued(server, device), 'in|out', 'one request waits');
    const request = await nextRequest(server, device);
    t.is(request.opcode, Opcode.LOOKUP);
    t.is(await fuse.waiting(), 1, 'one that has been read waits for its answer');
    t.is(await server.poll({ fd: device }), 'out', 'and no more to be read');
    t.is(await answerRequest(server, device, { ...request, error: -5 }), 'ok');
    t.is(await asking, 'EIO');
    t.is(await answerRequest(server, device, request), 'ENOENT', 'a second answer');
    t.is(await fuse.waiting(), 0);
  },
);

for (const [maxWrite, room] of [
  [4096, LEAST_ROOM],
  [64 * 1024, 64 * 1024 + BEFORE_DATA],
] as const) {
  guestTest(
    `with max_write ${maxWrite} the device is read with room for ${room} bytes, and with less never`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ init: { maxWrite } });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      await client.stat({ path: fuse.file('f') });
      const { server, device } = await takeOver(guest, fuse);
      await using _server = server;
      for (const count of [0, 40, room - 1]) {
        t.is(await server.errno.read({ fd: device, count }), 'EINVAL', `room for ${count} bytes`);
      }
      t.is(await server.errno.read({ fd: device, count: room }), 'EAGAIN', `room for ${room} bytes`);
    },
  );
}

guestTest('who asks for SIGIO on the device gets it with a request, and not before', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await using reader = await guest.client();
  const fd = await fuse.server.lendDevice(reader);
  await reader.fcntl({ fd, cmd: 'F_SETOWN', arg: reader.pid });
  await reader.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_ASYNC|O_NONBLOCK' });
  t.is(await reader.getpid({}), reader.pid, 'still there');
  // It has no handler: the signal ends it.
  const gone = reader.exited();
  await client.stat({ path: fuse.file('f') });
  t.like(await gone, { signal: 'SIGIO' });
});

guestTest('requests come to the server in the order in which they were made', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 1000 });
  await using client = await guest.client();
  const names = ['first', 'second', 'third'];
  for (const name of names) {
    await client.writeFile({ path: fuse.backing(name), data: '' });
    await client.stat({ path: fuse.file(name) });
  }
  const after = await fuse.position();
  await fuse.server.kill('SIGSTOP');
  const asking: Promise<unknown>[] = [];
  for (const name of names) {
    asking.push(client.stat({ path: fuse.file(name) }));
    t.is(await fuse.untilWaiting(asking.length), asking.length, `that for ${name} waits`);
  }
  await fuse.server.kill('SIGCONT');
  await Promise.all(asking);
  const asked = await fuse.requests({ opcode: 'GETATTR', after });
  t.deepEqual(
    asked.map(({ path }) => path),
    names.map((name) => `/${name}`),
  );
});

guestTest(
  'a request for which the server has no room is refused, and the next one is read',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: { maxWrite: 4096 }, entryValidS: 1000 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.stat({ path: fuse.file('f') });
    const { server, device } = await takeOver(guest, fuse);
    await using _server = server;
    const path = fuse.file('f');
    const setting = client.errno.setxattr({ path, name: 'user.large', data: pattern(LEAST_ROOM) });
    t.is(await requestQueued(server, device), 'in|out');
    t.is(await server.errno.read({ fd: device, count: LEAST_ROOM }), 'EAGAIN', 'no other request waits');
    t.is(await setting, 'E2BIG');
    t.is(await fuse.waiting(), 0);
    const getting = client.errno.getxattr({ path, name: 'user.large' });
    const request = await nextRequest(server, device);
    t.is(request.opcode, Opcode.GETXATTR);
    t.is(await answerRequest(server, device, { ...request, error: -61 }), 'ok');
    t.is(await getting, 'ENODATA');
  },
);

for (const [addFlags, errno] of [
  [[], 'ENODEV'],
  [['ABORT_ERROR'], 'ECONNABORTED'],
] as const) {
  const what = addFlags.length === 0 ? 'without ABORT_ERROR' : 'with ABORT_ERROR';
  guestTest(
    `${what} the device of an aborted connection is read with ${errno}, and callers are told`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ init: { addFlags } });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const { server, device } = await takeOver(guest, fuse);
      await using _server = server;
      const asking = client.errno.stat({ path: fuse.file('f') });
      const request = await nextRequest(server, device);
      const queued = client.errno.stat({ path: fuse.file('g') });
      t.is(await requestQueued(server, device), 'in|out');
      await fuse.abort();
      t.is(await asking, 'ECONNABORTED', 'whose request was read');
      t.is(await queued, 'ECONNABORTED', 'whose request was not');
      t.is(await client.errno.stat({ path: fuse.file('f') }), 'ENOTCONN', 'who comes later');
      t.is(await server.poll({ fd: device }), 'err');
      t.is(await server.errno.read({ fd: device, count: 2 ** 21 }), errno);
      t.is(await answerRequest(server, device, request), 'ENOENT', 'an answer to a request of before');
    },
  );
}

guestTest(
  'asynchronous requests beyond max_background wait in the kernel until one is answered',
  async (t, guest) => {
    const init = { maxBackground: 2, congestionThreshold: 1, addFlags: ['ASYNC_DIO'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await using client = await guest.client();
    const data = pattern(6 * 4096);
    await client.writeFile({ path: fuse.backing('f'), data });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
    const of = async (name: string): Promise<string> => {
      const path = `/sys/fs/fuse/connections/${fuse.connection}/${name}`;
      return text(await client.readFile({ path })).trim();
    };
    t.is(await of('max_background'), '2');
    t.is(await of('congestion_threshold'), '1');

    const hold = await fuse.hold('READ');
    const reading = client.aio({
      operations: Array.from({ length: 6 }, (_none, at) => ({
        op: 'pread',
        fd,
        count: 4096,
        offset: at * 4096,
      })),
    });
    reading.catch(() => undefined);
    const seen = [];
    for (let released = 0; released < 6; released++) {
      const arrived = await hold.arrived();
      // Two at the server, and the one whose caller is kept from sending more.
      const expected = Math.min(3, 6 - released);
      const waiting = await eventually(
        () => fuse.waiting(),
        (count) => count === expected,
      );
      t.is(waiting, expected, `${released} answered: those that wait`);
      const there = (await fuse.requests('READ')).length;
      t.is(there, Math.min(6, released + 2), `${released} answered: at the server`);
      seen.push(arrived.args['offset']);
      await hold.release(arrived);
    }
    t.deepEqual(seen, [0, 4096, 8192, 12_288, 16_384, 20_480], 'in their order');
    const results = await reading;
    t.deepEqual(
      results.map(({ result }) => result),
      [4096, 4096, 4096, 4096, 4096, 4096],
    );
    await client.close({ fd });
  },
);

guestTest(
  'no more RELEASE requests than max_background are at the server at once, and none is lost (C13)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: { maxBackground: 2 } });
    await using client = await guest.client();
    const names = ['a', 'b', 'c', 'd', 'e'];
    const fds = [];
    for (const name of names) {
      await client.writeFile({ path: fuse.backing(name), data: name });
      fds.push(await client.open({ path: fuse.file(name), flags: 'O_RDWR' }));
    }
    const hold = await fuse.hold('RELEASE');
    for (const fd of fds) await client.close({ fd });
    for (let released = 0; released < names.length; released++) {
      const release = await hold.arrived();
      t.is(release.path, `/${names[released]}`, `${released} answered: what comes is next in turn`);
      // What the kernel sends now comes after every RELEASE that it would send.
      await client.stat({ path: fuse.file('a') });
      const there = (await fuse.requests('RELEASE')).length;
      t.is(there, Math.min(names.length, released + 2), `${released} answered: at the server`);
      await hold.release(release);
      await fuse.waitFor({ opcode: 'RELEASE', after: release.seq - 1 });
    }
    await hold.stop();
    t.deepEqual((await fuse.state()).handles, []);
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a name that is forgotten gives back as many lookups as there were', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  for (let time = 0; time < 5; time++) await client.stat({ path: fuse.file('f') });
  t.is((await fuse.requests({ opcode: 'LOOKUP', path: '/f' })).length, 5);
  const lookups = async () => (await fuse.state()).inodes.find(({ path }) => path === '/f')?.lookups;
  t.is(await lookups(), 5);
  t.is(await fuse.notify({ parent: '/', name: 'f' }), 'ok');
  const forget = await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'arrived');
  t.like(forget, { opcode: 'FORGET', args: { nlookup: 5 } });
  t.is(await lookups(), undefined, 'the server has nothing left of it');
});

guestTest('nodes that are forgotten while the server is busy come to it in one request', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 1000 });
  await using client = await guest.client();
  const names = Array.from({ length: 20 }, (_each, nth) => `f${nth}`);
  for (const name of names) {
    await client.writeFile({ path: fuse.backing(name), data: '' });
    await client.stat({ path: fuse.file(name) });
  }
  const after = await fuse.position();
  await fuse.server.kill('SIGSTOP');
  await dropCaches(client, 'names and inodes');
  await fuse.server.kill('SIGCONT');
  const batch = await fuse.waitFor({ opcode: 'BATCH_FORGET', after }, 'arrived');
  const forgets = batch.args['forgets'];
  // One may have been on its way alone.
  t.true(Array.isArray(forgets) && forgets.length >= names.length - 1, JSON.stringify(batch.args));
  t.is(batch.args['count'], Array.isArray(forgets) ? forgets.length : -1, 'as many as it says');
  t.deepEqual(
    (await fuse.state()).inodes.map(({ path }) => path).filter((path) => path !== '/'),
    [],
  );
});

guestTest('each name that an inode is found by counts as a lookup of it', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 1000 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const names = ['f', 'second', 'third'];
  for (const to of names.slice(1)) await client.link({ from: fuse.backing('f'), to: fuse.backing(to) });
  const found = [];
  for (const name of names) found.push((await client.stat({ path: fuse.file(name) })).ino);
  t.is(new Set(found).size, 1, 'one inode');
  t.is((await fuse.requests('LOOKUP')).length, names.length);
  for (const name of names) t.is(await fuse.notify({ parent: '/', name }), 'ok');
  const forget = await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'arrived');
  t.like(forget, { opcode: 'FORGET', args: { nlookup: names.length } });
  t.deepEqual(
    (await fuse.state()).inodes.map(({ path }) => path).filter((path) => path !== '/'),
    [],
  );
});
