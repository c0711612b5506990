import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { DeviceServer, needsDevices, type DeviceOptions } from '../lib/device-server.ts';
import { guestTest } from '../lib/guest-test.ts';

/** How a character device of user space (CUSE) begins: what its server says of it, and which of that makes a device. */

/** include/uapi/linux/fuse.h */
const CUSE_UNRESTRICTED_IOCTL = 1;
/** CUSE_INIT_INFO_MAX: what may be said of a device. Bytes. */
const MOST_INFO = 4096;
/** Documentation/admin-guide/devices.txt: for local use, so that the kernel gives it to nobody. */
const LOCAL = 120;
const EPERM = -1;

guestTest(
  'the server of a device is told the version of the kernel, and that its ioctls need not be restricted',
  async (t, guest) => {
    await needsDevices(guest);
    await using fuse = await guest.mountFuse();
    const { args } = await fuse.waitFor('INIT');
    await using server = await DeviceServer.open(guest);
    const { asked } = await server.begin();
    const view = new DataView(asked.buffer, asked.byteOffset, asked.byteLength);
    // `cuse_init_in`
    t.deepEqual(
      [0, 4, 8, 12].map((at) => view.getUint32(at, true)),
      [7, Number(args['minor']), 0, CUSE_UNRESTRICTED_IOCTL],
      'major and minor version as for a mount, nothing, flags',
    );
    t.is(asked.length, 16);
  },
);

/** A server that answers like this. @returns what was said of the answer, and whether there is a device then. */
async function outcome(
  client: Client,
  name: string,
  options: DeviceOptions,
): Promise<readonly [errno: string, device: string, server: string]> {
  const server = await DeviceServer.by(client, name);
  const { errno } = await server.begin(options);
  const all = [errno, await client.errno.stat({ path: server.path }), await server.readErrno()] as const;
  await server.end();
  return all;
}

/** There is a device, and nothing that its server is asked. */
const BEGINS = ['ok', 'ok', 'EAGAIN'] as const;
/** There is none, and its server has no connection any more. */
const REFUSED = ['ok', 'ENOENT', 'ENODEV'] as const;

/** What is said of a device that is to be called `@`. */
const INFO: Readonly<Record<string, readonly [string, typeof BEGINS | typeof REFUSED]>> = {
  'its name': ['DEVNAME=@\0', BEGINS],
  'its name between blanks': [' DEVNAME =  @ \0', BEGINS],
  'its name behind something else': ['OTHER=x\0ALONE\0DEVNAME=@\0', BEGINS],
  'its name before something else': ['DEVNAME=@\0OTHER=x\0', BEGINS],
  'its name behind another one': ['DEVNAME=other\0DEVNAME=@\0', BEGINS],
  'its name between empty strings': ['\0\0DEVNAME=@\0\0\0', BEGINS],
  nothing: ['', REFUSED],
  'nothing but empty strings': ['\0\0', REFUSED],
  'no name': ['OTHER=@\0', REFUSED],
  'an empty name': ['DEVNAME=\0', REFUSED],
  'a name of blanks': ['DEVNAME=  \0', REFUSED],
  'a name without a value': ['DEVNAME\0', REFUSED],
  'its name without an end': ['DEVNAME=@', REFUSED],
  'something without an end behind its name': ['DEVNAME=@\0OTHER=x', REFUSED],
  'an empty key': ['=x\0DEVNAME=@\0', REFUSED],
  'a key of blanks': ['  =x\0DEVNAME=@\0', REFUSED],
};

guestTest('what the server says of a device makes one of that name, or none', async (t, guest) => {
  await needsDevices(guest);
  await using client = await guest.client();
  for (const [nth, [what, [info, expected]]] of Object.entries(INFO).entries()) {
    const name = `fusegate-info-${nth}`;
    t.deepEqual(
      await outcome(client, name, { info: info.replace('@', name) }),
      expected,
      `the server says ${what}`,
    );
  }
  for (const [length, expected] of [
    [MOST_INFO, BEGINS],
    [MOST_INFO + 1, ['EINVAL', 'ENOENT', 'ENODEV']],
  ] as const) {
    const info = 'DEVNAME=fusegate-long\0'.padEnd(length, '\0');
    t.deepEqual(await outcome(client, 'fusegate-long', { info }), expected, `${length} bytes`);
  }
});

guestTest(
  'a device is for servers of protocol 7.11 and later, and of no other major version',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    for (const [major, minor, expected] of [
      [7, 11, BEGINS],
      [7, 99, BEGINS],
      [7, 10, REFUSED],
      [8, 36, REFUSED],
      [6, 36, REFUSED],
    ] as const) {
      const name = `fusegate-version-${major}-${minor}`;
      t.deepEqual(await outcome(client, name, { major, minor }), expected, `version ${major}.${minor}`);
    }
  },
);

guestTest('a device has the number that its server says, or one of the kernel’s choice', async (t, guest) => {
  await needsDevices(guest);
  await using client = await guest.client();
  for (const [major, minor] of [
    [LOCAL, 3],
    [LOCAL, 300],
    [0, 0],
    [0, 5],
  ] as const) {
    await using server = await DeviceServer.start(guest, { number: [major, minor] });
    const { rdevMajor, rdevMinor } = await client.stat({ path: server.path });
    const what = `number ${major}:${minor}`;
    if (major === 0) t.true(rdevMajor > 0, `${what}: a major number of the kernel’s choice`);
    else t.is(rdevMajor, major, `${what}: the major number`);
    t.is(rdevMinor, minor, `${what}: the minor number`);
    const said = text(await client.readFile({ path: `/sys/class/cuse/${server.name}/dev` }));
    t.is(said, `${rdevMajor}:${rdevMinor}\n`, `${what}: in sysfs`);
  }
});

guestTest(
  'no two devices have one name or one number, which are free again with their device',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    const [name, number] = ['fusegate-once', [LOCAL, 7]] as const;
    await using first = await DeviceServer.start(guest, { name, number });
    const before = (await guest.kernelLog()).at(-1)?.seq;
    for (const [what, other] of [
      ['the same name', { name, number: [LOCAL, 8] }],
      ['the same name, and a number of the kernel’s choice', { name }],
      ['the same number', { name: 'fusegate-other', number }],
    ] as const satisfies (readonly [string, DeviceOptions & { name: string }])[]) {
      await using server = await DeviceServer.open(guest, other.name);
      t.is((await server.begin(other)).errno, 'ok');
      t.is(await server.readErrno(), 'ENODEV', `${what}: there is no second device`);
    }
    t.is(await client.errno.stat({ path: '/dev/fusegate-other' }), 'ENOENT', 'nothing is left of it');
    const log = (await guest.kernelLog(before)).map(({ text: line }) => line);
    t.deepEqual(
      log.filter((line) => line.includes('duplicate')),
      [],
      'a name is looked for before the device is made',
    );
    await first.close(client, await first.open(client));
    t.is((await client.stat({ path: first.path })).rdevMinor, 7, 'the first one works on');
    await using beside = await DeviceServer.start(guest, { number: [LOCAL, 8] });
    t.is(await client.errno.stat({ path: beside.path }), 'ok', 'a number that was asked for in vain is free');
    await first.end();
    t.is(await client.errno.stat({ path: first.path }), 'ENOENT', 'the first one is over');
    await using next = await DeviceServer.start(guest, { name, number });
    t.is(await client.errno.stat({ path: next.path }), 'ok', 'another one has its name and its number');
    const { rdevMajor, rdevMinor } = await client.stat({ path: next.path });
    t.deepEqual([rdevMajor, rdevMinor], [...number]);
    await next.close(client, await next.open(client));
  },
);

guestTest(
  'who opens a device gets to its own server, and nobody by its number when it is over',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    // What the kernel looks for them by is the same: the sum of both numbers, of which the last bits count.
    const minors = [1, 65, 129];
    await using stack = new AsyncDisposableStack();
    const servers: DeviceServer[] = [];
    for (const minor of minors) {
      servers.push(stack.use(await DeviceServer.start(guest, { number: [LOCAL, minor] })));
    }
    const node = `${await guest.directory('tmpfs')}/by-number`;
    await client.mknod({ path: node, mode: 0o020_600, major: LOCAL, minor: minors[1] ?? 0 });
    for (const [nth, server] of servers.entries()) {
      const opened = client.errno.open({ path: server.path, flags: 'O_RDWR' });
      const isAsked = async (): Promise<boolean[]> => Promise.all(servers.map((each) => each.isAsked()));
      let asked = await isAsked();
      for (let tries = 0; tries < 400 && !asked.includes(true); tries++) asked = await isAsked();
      t.deepEqual(
        asked,
        servers.map((_each, at) => at === nth),
        `device ${nth}: whose server is asked`,
      );
      for (const [at, each] of servers.entries()) if (asked[at] === true) await each.refuse(EPERM);
      t.is(await opened, 'EPERM', `device ${nth}: what the server says`);
    }
    for (const server of servers) await server.end();
    t.is(
      await client.errno.open({ path: node, flags: 'O_RDWR' }),
      'ENXIO',
      'by the number of a device that is over',
    );
  },
);
