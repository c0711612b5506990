import { text } from '../lib/bytes.ts';
import { DeviceServer, needsDevices } from '../lib/device-server.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';

/** What the server of a character device (CUSE) is told of opens, and how such a device ends. */

/** include/uapi/linux/fuse.h */
const READ = 15;

/** `flags` of `fuse_open_in`, which is its first member, and of `fuse_release_in`, where it is behind the handle. */
const FLAGS_OF_OPEN = 0;
const FLAGS_OF_RELEASE = 8;

guestTest(
  'the server of a device is told with what flags a file was opened, and again at its end',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest);
    for (const flags of ['O_RDONLY', 'O_WRONLY', 'O_RDWR|O_NONBLOCK', 'O_WRONLY|O_APPEND']) {
      const told: string[] = [];
      const at =
        (offset: number) =>
        (args: Uint8Array): void => {
          told.push(openFlagNames(new DataView(args.buffer, args.byteOffset).getUint32(offset, true)));
        };
      const fd = await server.open(client, flags, at(FLAGS_OF_OPEN));
      await server.close(client, fd, at(FLAGS_OF_RELEASE));
      t.deepEqual(told, [flags, flags], `${flags}: OPEN, RELEASE`);
    }
  },
);

guestTest('a device says in sysfs what waits for its server, and can be aborted there', async (t, guest) => {
  await needsDevices(guest);
  await using client = await guest.client();
  await using other = await guest.client();
  await using server = await DeviceServer.start(guest);
  const directory = `/sys/class/cuse/${server.name}`;
  const modes = await Promise.all(
    ['waiting', 'abort'].map(async (name) => (await client.stat({ path: `${directory}/${name}` })).mode),
  );
  t.deepEqual(
    modes.map((mode) => mode.toString(8)),
    ['100400', '100200'],
    'who may do so',
  );
  const waiting = async (): Promise<string> => text(await other.readFile({ path: `${directory}/waiting` }));
  const fd = await server.open(client);
  t.is(await waiting(), '0\n', 'nothing is asked');
  const reading = client.errno.read({ fd, count: 10 });
  reading.catch(() => undefined);
  await server.take(READ);
  t.is(await waiting(), '1\n', 'a read that is not answered');
  t.is(await other.errno.writeFile({ path: `${directory}/abort`, data: '1', flags: 'O_WRONLY' }), 'ok');
  t.is(await reading, 'ECONNABORTED', 'who has asked');
  t.is(await client.errno.read({ fd, count: 10 }), 'ENOTCONN', 'who asks later');
  t.is(await client.errno.open({ path: server.path, flags: 'O_RDWR' }), 'ENOTCONN', 'who opens it');
  t.is(await server.readErrno(), 'ENODEV', 'what its server is told');
  t.is(await waiting(), '0\n', 'nothing is left');
  await client.close({ fd });
  await server.end();
  t.is(await client.errno.stat({ path: directory }), 'ENOENT', 'it is gone with its server');
});

guestTest('a device ends with its server, and whoever has it open is told', async (t, guest) => {
  await needsDevices(guest);
  await using client = await guest.client();
  await using server = await DeviceServer.start(guest);
  const fd = await server.open(client);
  const reading = client.errno.read({ fd, count: 10 });
  reading.catch(() => undefined);
  await server.take(READ);
  await server.end();
  t.is(await reading, 'ECONNABORTED', 'who has asked');
  t.is(await client.errno.stat({ path: server.path }), 'ENOENT', 'its name');
  t.is(
    await client.errno.stat({ path: `/sys/class/cuse/${server.name}` }),
    'ENOENT',
    'its directory in sysfs',
  );
  t.is(await client.errno.read({ fd, count: 10 }), 'ENOTCONN', 'a read');
  t.is(await client.errno.write({ fd, data: '1' }), 'ENOTCONN', 'a write');
  t.is(await client.errno.ioctl({ fd, request: 0x6701 }), 'ENOTCONN', 'an ioctl');
  t.is(await client.errno.close({ fd }), 'ok', 'its close waits for nobody');
});
