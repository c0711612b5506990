import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { FailingAllocations, inWords } from '../lib/fail-nth.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** The control filesystem itself: unmounted and mounted again while there are connections (filesystems/fuse.rst). */

const CONNECTIONS = '/sys/fs/fuse/connections';
const CONTROL = { source: 'fusectl', target: CONNECTIONS, type: 'fusectl' };
const FILES = ['abort', 'congestion_threshold', 'max_background', 'waiting'];

const directory = ({ connection }: FuseMount): string => `${CONNECTIONS}/${connection}`;

/** Puts the control filesystem back where it was, if it is not there in the end. */
function backInTheEnd(client: Client): AsyncDisposable {
  return {
    [Symbol.asyncDispose]: async () => {
      const mounts = text(await client.readFile({ path: '/proc/self/mountinfo' }));
      if (!mounts.includes(` ${CONNECTIONS} `)) await client.mount(CONTROL);
    },
  };
}

guestTest(
  'a control filesystem that is mounted again has the connections of now, with what they are set to',
  async (t, guest) => {
    await using client = await guest.client();
    await using _back = backInTheEnd(client);
    await using stays = await guest.mountFuse();
    await using ends = await guest.mountFuse();
    const before = await client.readdir({ path: CONNECTIONS });
    await client.writeFile({ path: `${directory(stays)}/max_background`, data: '7', flags: 'O_WRONLY' });
    t.is(await client.errno.umount2({ target: CONNECTIONS }), 'ok', 'unmounted while there are connections');
    t.deepEqual(await client.readdir({ path: CONNECTIONS }), [], 'nothing is left of it');
    t.is(await ends.unmount(), 'ok', 'a connection ends without it');
    await using comes = await guest.mountFuse();
    for (const fuse of [stays, comes]) {
      await client.writeFile({ path: fuse.file('f'), data: 'contents' });
      t.is(text(await client.readFile({ path: fuse.file('f') })), 'contents', 'one works without it');
      t.deepEqual(await fuse.dataRequests(), [], 'in passthrough mode');
    }
    await client.mount(CONTROL);
    const expected = before.filter((name) => name !== String(ends.connection));
    t.deepEqual(
      await client.readdir({ path: CONNECTIONS }),
      [...expected, String(comes.connection)].sort(),
      'those that there are now',
    );
    t.is((await client.stat({ path: CONNECTIONS })).nlink, 2 + expected.length + 1, 'links of the root');
    for (const fuse of [stays, comes]) {
      t.deepEqual(await client.readdir({ path: directory(fuse) }), FILES, 'each with its files');
    }
    const limit = async (fuse: FuseMount): Promise<string> =>
      text(await client.readFile({ path: `${directory(fuse)}/max_background` }));
    t.is(await limit(stays), '7\n', 'which say what was set before');
    t.not(await limit(comes), '7\n');
    await client.writeFile({ path: `${directory(comes)}/abort`, data: '1', flags: 'O_WRONLY' });
    t.is(await client.errno.stat({ path: comes.file('f') }), 'ENOTCONN', 'an abort reaches its connection');
    t.is(await client.errno.stat({ path: stays.file('f') }), 'ok', 'and no other');
    t.is(await stays.unmount(), 'ok');
    t.is(await client.errno.stat({ path: directory(stays) }), 'ENOENT', 'one that ends is gone from it');
    t.is((await client.stat({ path: CONNECTIONS })).nlink, 2 + expected.length, 'and so is its link');
  },
);

guestTest(
  'a control filesystem of which a file is open is not unmounted, and detached it is the same when it comes back',
  async (t, guest) => {
    await using client = await guest.client();
    await using _back = backInTheEnd(client);
    await using fuse = await guest.mountFuse();
    const path = `${directory(fuse)}/waiting`;
    const open = await Promise.all([1, 2].map(() => client.open({ path, flags: 'O_RDONLY' })));
    const [fd = -1, later = -1] = open;
    const { ino } = await client.fstat({ fd });
    t.is(await client.errno.umount2({ target: CONNECTIONS }), 'EBUSY', 'while a file is open');
    t.is(await client.errno.umount2({ target: CONNECTIONS, flags: 'MNT_DETACH' }), 'ok');
    t.is(await client.errno.stat({ path }), 'ENOENT', 'detached');
    t.is(text(await client.read({ fd, count: 10 })), '0\n', 'the open file works');
    await using other = await guest.mountFuse();
    await client.mount(CONTROL);
    t.is((await client.stat({ path })).ino, ino, 'the same file as before');
    t.deepEqual(await client.readdir({ path: directory(other) }), FILES, 'a connection made meanwhile');
    t.is(await fuse.unmount(), 'ok');
    t.is(
      (await client.read({ fd: later, count: 10 })).length,
      0,
      'an open file of a connection that is over',
    );
    for (const each of open) await client.close({ fd: each });
    t.is(await client.errno.umount2({ target: CONNECTIONS }), 'ok', 'when they are closed');
  },
);

guestTest('a control filesystem that is mounted twice is one', async (t, guest) => {
  await using client = await guest.client();
  await using _back = backInTheEnd(client);
  await using second = await guest.mount({ source: 'fusectl', type: 'fusectl' }, client);
  t.is(await client.errno.umount2({ target: CONNECTIONS }), 'ok', 'the usual one is unmounted');
  await using fuse = await guest.mountFuse();
  const path = second.file(`${fuse.connection}/max_background`);
  t.is(await client.errno.writeFile({ path, data: '9', flags: 'O_WRONLY' }), 'ok', 'the other one works');
  await client.mount(CONTROL);
  const usual = `${directory(fuse)}/max_background`;
  t.is(text(await client.readFile({ path: usual })), '9\n', 'set through the other one');
  t.is((await client.stat({ path: usual })).ino, (await client.stat({ path })).ino, 'the same file');
  t.is(await second.unmount(), 'ok');
  t.is(await client.errno.stat({ path: usual }), 'ok', 'the usual one stays');
});

guestTest('a control filesystem takes no options, and is for root alone', async (t, guest) => {
  await using client = await guest.client();
  await using inside = await guest.client({
    launcher: ['unshare', '--user', '--map-root-user', '--mount'],
  });
  const errno = (options: string, who = client): Promise<string> =>
    guest.mountErrno({ source: 'fusectl', type: 'fusectl', options }, who);
  t.is(await errno(''), 'ok');
  const { type } = await client.statfs({ path: CONNECTIONS });
  t.is(type, 0x6573_5543, 'FUSE_CTL_SUPER_MAGIC, by which it is known');
  for (const option of ['max_background=5', 'uid=0', 'no_such_option']) {
    t.is(await errno(option), 'EINVAL', option);
  }
  t.is(await errno('', inside), 'EPERM', 'root of another user namespace');
});

guestTest(
  'a control filesystem that there is no memory for is not mounted, and its connections are none the worse (H13)',
  async (t, guest) => {
    await using client = await guest.client();
    const failing = await FailingAllocations.of(guest, client);
    await using _back = backInTheEnd(client);
    await using one = await guest.mountFuse();
    await using other = await guest.mountFuse();
    const before = await client.readdir({ path: CONNECTIONS });
    t.is(await client.errno.umount2({ target: CONNECTIONS }), 'ok');
    const tries = await failing.each('mount', CONTROL, async ({ nth, errno }) => {
      if (errno === 'ok') {
        t.deepEqual(await client.readdir({ path: CONNECTIONS }), before, `${nth}: all connections`);
        for (const fuse of [one, other])
          t.deepEqual(await client.readdir({ path: directory(fuse) }), FILES, `${nth}: all files`);
        t.is(await client.errno.umount2({ target: CONNECTIONS }), 'ok', `${nth}: unmounted`);
      } else {
        t.is(errno, 'ENOMEM', `${nth}`);
        t.deepEqual(await client.readdir({ path: CONNECTIONS }), [], `${nth}: nothing is mounted`);
      }
    });
    t.true(
      tries.some(({ errno }) => errno === 'ENOMEM'),
      inWords(tries),
    );
    await client.mount(CONTROL);
    t.deepEqual(await client.readdir({ path: CONNECTIONS }), before, 'all connections, later');
    for (const fuse of [one, other]) t.is(await fuse.unmount(), 'ok');
    const left = before.filter((name) => ![one, other].some(({ connection }) => name === String(connection)));
    t.deepEqual(await client.readdir({ path: CONNECTIONS }), left);
  },
);
