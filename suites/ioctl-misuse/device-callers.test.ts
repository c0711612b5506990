import { concat, text } from '../lib/bytes.ts';
import { ioctlOn32, needs32Bit } from '../lib/calls-32.ts';
import { DeviceServer, needsDevices } from '../lib/device-server.ts';
import { u32 } from '../lib/entry-answer.ts';
import { NotifyCode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { askAgain, ioctlAnswer } from '../lib/ioctl-answer.ts';

/** How a character device of user space (CUSE) is reached: by its number, by poll, by whom, and from 32-bit programs. */

/** include/uapi/linux/fuse.h */
const POLL = 40;
const POLL_SCHEDULE_NOTIFY = 1;
const [COMPAT, FOR_32_BITS] = [1, 8];
const [POLLIN, POLLOUT] = [1, 4];
const [EPERM, EIO] = [-1, -5];
/** Documentation/admin-guide/devices.txt: for local use, so that the kernel gives it to nobody. */
const LOCAL = 120;
/** Longer than any test. Milliseconds. */
const LONG_MS = 60_000;
/** Without direction and size: nothing comes along by itself. */
const REQUEST = 0x6701;
/** Nobody in a user namespace which has root alone. */
const STRANGER = 4000;

/** `fuse_poll_out`. */
function polled(events: number): Uint8Array {
  return concat(u32(events), u32(0));
}

guestTest(
  'poll of a device asks its server, and who waits in it is woken by a notification',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest);
    const fd = await server.open(client);
    for (const [events, told] of [
      [0, ''],
      [POLLOUT, 'out'],
    ] as const) {
      const asking = client.poll({ fd });
      asking.catch(() => undefined);
      t.is(await server.unlessAsked(asking), 'the server is asked', 'a poll that waits for nothing');
      await server.answer(POLL, () => polled(events));
      t.is(await asking, told, 'what the server says');
    }
    const waiting = client.poll({ fd, waitMs: LONG_MS });
    waiting.catch(() => undefined);
    let handle = new Uint8Array();
    await server.answer(POLL, (args) => {
      // `fuse_poll_in`
      handle = args.slice(8, 16);
      t.is(new DataView(args.buffer, args.byteOffset).getUint32(16, true), POLL_SCHEDULE_NOTIFY);
      return polled(0);
    });
    t.is(await server.notify(NotifyCode.POLL, handle), 'ok');
    await server.answer(POLL, () => polled(POLLIN));
    t.is(await waiting, 'in', 'woken by the notification, it asked again');
    await server.close(client, fd);
  },
);

guestTest(
  'a 32-bit program gets to a restricted server what the number says, and nothing else',
  async (t, guest) => {
    await needsDevices(guest);
    await needs32Bit(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest, { unrestricted: false });
    const fd = await server.open(client);
    const how = { request: REQUEST, arg: new Uint8Array(8) };
    for (const [what, answer, outcome] of [
      ['a result', () => ioctlAnswer(7), 7],
      ['that it wants more', ({ arg }: { readonly arg: bigint }) => askAgain([[arg, 8]]), EIO],
    ] as const) {
      const call = ioctlOn32(guest, client, { pid: client.pid, fd }, how);
      const [asked] = await server.serve([answer]);
      t.is(asked?.flags, COMPAT | FOR_32_BITS, `${what}: what the server is told of the caller`);
      t.is(await server.unlessAsked(call), outcome, `the server answers with ${what}`);
    }
    await server.close(client, fd);
  },
);

guestTest(
  'a device has its number alone, in its own name, and the next number leads nowhere',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    const numbers = async (): Promise<string> => text(await client.readFile({ path: '/proc/devices' }));
    for (const [major, minor] of [
      [LOCAL, 40],
      [0, 0],
    ] as const) {
      const name = `fusegate-named-${major}`;
      await using server = await DeviceServer.start(guest, { number: [major, minor], name });
      const { rdevMajor, rdevMinor } = await client.stat({ path: server.path });
      const line = new RegExp(String.raw`^ *${rdevMajor} ${name}$`, 'm');
      const what = `number ${major}:${minor}`;
      t.regex(await numbers(), line, `${what}: whose it is`);
      const directory = await guest.directory('tmpfs');
      for (const [node, at, outcome] of [
        [`${directory}/same`, rdevMinor, 'the server is asked'],
        [`${directory}/next`, rdevMinor + 1, 'ENXIO'],
      ] as const) {
        await client.mknod({ path: node, mode: 0o020_600, major: rdevMajor, minor: at });
        const opening = client.errno.open({ path: node, flags: 'O_RDWR' });
        opening.catch(() => undefined);
        t.is(await server.unlessAsked(opening), outcome, `${what}: an open by ${rdevMajor}:${at}`);
        if (outcome !== 'the server is asked') continue;
        await server.refuse(EPERM);
        t.is(await opening, 'EPERM', `${what}: what the server says`);
      }
      await server.end();
      t.notRegex(await numbers(), line, `${what}: it is nobody’s with the end of the device`);
    }
  },
);

guestTest(
  'the server of a device in a user namespace is asked nothing by who is nobody there: EOVERFLOW (F1)',
  async (t, guest) => {
    await needsDevices(guest);
    await using root = await guest.client();
    for (const [where, options] of [
      ['outside', {}],
      ['in a namespace of its own', { launcher: ['unshare', '--user', '--map-root-user'] }],
    ] as const) {
      await using process = await guest.client(options);
      await using server = await DeviceServer.by(process);
      t.is((await server.begin()).errno, 'ok', `a server ${where}`);
      await root.chmod({ path: server.path, mode: 0o666 });
      for (const [who, ids] of [
        ['root', undefined],
        ['a stranger', { uid: STRANGER, gid: 0 }],
        ['who is in a strange group', { uid: 0, gid: STRANGER }],
      ] as const) {
        // Everybody is somebody there: one shows it.
        if (where === 'outside' && who !== 'a stranger') continue;
        await using client = await guest.client();
        if (ids !== undefined) await client.setCredentials({ ...ids, groups: [] });
        const opening = client.errno.open({ path: server.path, flags: 'O_RDWR' });
        opening.catch(() => undefined);
        const known = who === 'root' || where === 'outside';
        const outcome = await server.unlessAsked(opening);
        t.is(outcome, known ? 'the server is asked' : 'EOVERFLOW', `a server ${where}, ${who}`);
        if (!known) continue;
        await server.refuse(EPERM);
        t.is(await opening, 'EPERM');
      }
    }
  },
);
