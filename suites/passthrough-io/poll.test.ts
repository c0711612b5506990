import type { RequestRecord } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What poll(2) says of a file is the server's word, also where its data go past the server. */

/** include/uapi/linux/fuse.h */
const POLL_SCHEDULE_NOTIFY = 1 << 0;
const POLLIN = 1;
const POLLOUT = 4;
const POLLRDNORM = 64;
const POLLWRNORM = 256;
/** What poll(2) tells of whether it is asked for or not: POLLERR and POLLHUP. */
const POLL_ALWAYS = 8 | 16;
/** Longer than any test. Milliseconds. */
const LONG_MS = 60_000;

/** What the server says there is, from now on. */
function answerPoll(fuse: FuseMount, events: number): Promise<() => Promise<void>> {
  const body = new Uint8Array(8);
  new DataView(body.buffer).setUint32(0, events, true);
  return fuse.rule({ match: { opcode: 'POLL' }, action: { do: 'body', body } });
}

/** `fuse_notify_poll_wakeup_out`: the handle of the kernel as its request gave it. */
function wakeUp(fuse: FuseMount, request: RequestRecord): Promise<string> {
  const body = new Uint8Array(8);
  new DataView(body.buffer).setBigUint64(0, BigInt(String(request.args['kh'])), true);
  return fuse.notify({ code: 'POLL', body });
}

for (const passthrough of ['off', 'auto'] as const) {
  guestTest(
    `poll asks the server, whose notification wakes who waits, passthrough ${passthrough}`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      await answerPoll(fuse, POLLIN);
      t.is(await client.poll({ fd }), 'in', 'what the server says');
      const { args } = await fuse.waitFor('POLL');
      t.is(args['flags'], 0, 'who does not wait wants no notification');

      await answerPoll(fuse, 0);
      const after = await fuse.position();
      const waiting = client.poll({ fd, waitMs: LONG_MS });
      const request = await fuse.waitFor({ opcode: 'POLL', after });
      t.is(request.args['flags'], POLL_SCHEDULE_NOTIFY, 'somebody waits, and wants to be told');
      t.is(request.args['events'], POLLIN | POLLOUT | POLL_ALWAYS, 'of what, is told to the server');
      await answerPoll(fuse, POLLIN);
      t.is(await wakeUp(fuse, request), 'ok');
      t.is(await waiting, 'in', 'woken by the notification, it asked again');
      await client.close({ fd });
      t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}

guestTest('a notification wakes who polls the file that it is about, and nobody else', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await answerPoll(fuse, 0);
  const waiting: { name: string; woken: Promise<string>; request: RequestRecord; fd: number }[] = [];
  for (const name of ['a', 'b']) {
    await client.writeFile({ path: fuse.backing(name), data: 'contents' });
    const fd = await client.open({ path: fuse.file(name), flags: 'O_RDONLY' });
    const woken = client.poll({ fd, waitMs: LONG_MS });
    woken.catch(() => undefined);
    waiting.push({ name, woken, request: await fuse.waitFor({ opcode: 'POLL', path: `/${name}` }), fd });
  }
  const handles = waiting.map(({ request }) => String(request.args['kh']));
  t.is(new Set(handles).size, 2, 'each open file has a handle of its own');
  await answerPoll(fuse, POLLIN);
  for (const { name, woken, request } of waiting.reverse()) {
    t.is(await wakeUp(fuse, request), 'ok', name);
    t.is(await woken, 'in', `${name} is woken`);
    // Who is woken asks again.
    const others = waiting.filter((each) => each.name < name);
    for (const other of others) {
      const asked = await fuse.requests({ opcode: 'POLL', path: `/${other.name}` });
      t.is(asked.length, 1, `${other.name} waits on`);
    }
  }
  for (const { fd } of waiting) await client.close({ fd });
});

guestTest(
  'whatever order files are polled in, a notification finds its own, and one about no file finds none',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await answerPoll(fuse, 0);
    const names = ['a', 'b', 'c', 'd', 'e'];
    const fds = new Map<string, number>();
    for (const name of names) {
      await client.writeFile({ path: fuse.backing(name), data: 'contents' });
      fds.set(name, await client.open({ path: fuse.file(name), flags: 'O_RDONLY' }));
    }
    // Handles count up from one open to the next; this is not their order.
    const waiting = new Map<string, { woken: Promise<string>; request: RequestRecord }>();
    for (const name of ['c', 'a', 'e', 'b', 'd']) {
      const woken = client.poll({ fd: fds.get(name) ?? -1, waitMs: LONG_MS });
      woken.catch(() => undefined);
      waiting.set(name, { woken, request: await fuse.waitFor({ opcode: 'POLL', path: `/${name}` }) });
    }
    const asked = async (): Promise<number> => (await fuse.requests('POLL')).length;
    for (const kh of [0n, 1n << 40n]) {
      const body = new Uint8Array(8);
      new DataView(body.buffer).setBigUint64(0, kh, true);
      t.is(await fuse.notify({ code: 'POLL', body }), 'ok', `about handle ${kh}, which no file has`);
    }
    t.is(await asked(), names.length, 'nobody is woken');
    await answerPoll(fuse, POLLIN);
    for (const [nth, name] of ['d', 'a', 'c', 'e', 'b'].entries()) {
      const { woken, request } = waiting.get(name) ?? {};
      if (woken === undefined || request === undefined) continue;
      t.is(await wakeUp(fuse, request), 'ok', name);
      t.is(await woken, 'in', `${name} is woken`);
      t.is(await asked(), names.length + nth + 1, `${name} alone asks again`);
    }
    for (const fd of fds.values()) await client.close({ fd });
  },
);

guestTest('who waits in poll is told when the connection ends', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  await answerPoll(fuse, 0);
  const waiting = client.poll({ fd, waitMs: LONG_MS });
  await fuse.waitFor('POLL');
  await fuse.abort();
  t.is(await waiting, 'err');
  // Where close has a FLUSH to send, nobody is there to answer it.
  await client.errno.close({ fd });
});

guestTest(
  'a server that does not know POLL is asked once: there is always something then',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    for (const time of ['first', 'second']) t.is(await client.poll({ fd }), 'in|out', `the ${time} time`);
    t.is((await fuse.requests('POLL')).length, 1);
    await client.close({ fd });
  },
);

guestTest(
  'what poll tells of normal data it tells of a file, and of the device with a request for its server',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const normal = { events: 'rdnorm|wrnorm' } as const;
    const takeBack = await answerPoll(fuse, POLLWRNORM);
    t.is(await client.poll({ fd, ...normal }), 'wrnorm', 'a file, what its server says');
    const { args } = await fuse.waitFor('POLL');
    t.is(args['events'], POLLRDNORM | POLLWRNORM | POLL_ALWAYS, 'which is told what is wanted');
    await takeBack();
    t.is(await client.poll({ fd, ...normal }), 'rdnorm|wrnorm', 'a file of a server that does not know POLL');
    await client.close({ fd });

    await using server = await guest.client();
    const device = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');
    t.is(await server.poll({ fd: device, ...normal }), 'wrnorm', 'a device without a request');
    const asking = client.errno.stat({ path: fuse.file('none') });
    t.is(await fuse.untilWaiting(1), 1);
    t.is(await server.poll({ fd: device, ...normal }), 'rdnorm|wrnorm', 'a device with one');
    await fuse.abort();
    t.is(await asking, 'ECONNABORTED');
    t.is(await server.poll({ fd: device, ...normal }), 'err', 'a device of a connection that is over');
  },
);
