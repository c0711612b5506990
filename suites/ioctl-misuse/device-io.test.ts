import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import { DEVICE_MOST, DeviceServer, needsDevices } from '../lib/device-server.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';

/** read(2) and write(2) of a character device whose server is in user space (CUSE): no page cache, no position. */

/** include/uapi/linux/fuse.h */
const [READ, WRITE] = [15, 16];
/** Of `fuse_read_in` and `fuse_write_in`. Bytes. */
const ARGS = 40;

interface Asked {
  readonly offset: number;
  readonly size: number;
  readonly data: Uint8Array;
}

function asked(args: Uint8Array): Asked {
  const view = new DataView(args.buffer, args.byteOffset, args.byteLength);
  return {
    offset: Number(view.getBigUint64(8, true)),
    size: view.getUint32(16, true),
    data: args.slice(ARGS),
  };
}

/** `fuse_write_out`. */
function written(bytes: number): Uint8Array {
  return concat(u32(bytes), u32(0));
}

guestTest(
  'every read of a device begins at 0, is cut into what its server can take, and ends where that has no more',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest);
    const fd = await server.open(client);
    const contents = pattern(2 * DEVICE_MOST, 3);
    for (const [what, there, sizes] of [
      ['all of it', 2 * DEVICE_MOST, [DEVICE_MOST, DEVICE_MOST]],
      ['the same again', 2 * DEVICE_MOST, [DEVICE_MOST, DEVICE_MOST]],
      ['less than was asked for', DEVICE_MOST + 5, [DEVICE_MOST, DEVICE_MOST]],
      ['much less', 7, [DEVICE_MOST]],
      ['nothing', 0, [DEVICE_MOST]],
    ] as const) {
      const reading = client.read({ fd, count: 2 * DEVICE_MOST });
      const requests: Asked[] = [];
      for (const _size of sizes) {
        await server.answer(READ, (args) => {
          const request = asked(args);
          requests.push(request);
          return contents.subarray(0, there).subarray(request.offset, request.offset + request.size);
        });
      }
      t.is(firstDifference(await reading, contents.subarray(0, there)), undefined, what);
      t.deepEqual(
        requests.map(({ offset, size }) => [offset, size]),
        sizes.map((size, nth) => [nth * DEVICE_MOST, size]),
        what,
      );
    }
    await server.close(client, fd);
  },
);

guestTest(
  'every write to a device begins at 0, comes in what its server can take, and ends where that took less',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest);
    const fd = await server.open(client);
    const data = pattern(DEVICE_MOST + 100, 5);
    for (const [what, takes] of [
      ['all of it', [DEVICE_MOST, 100]],
      ['the same again', [DEVICE_MOST, 100]],
      ['a part of the second request', [DEVICE_MOST, 40]],
      ['a part of the first', [300]],
    ] as const) {
      const writing = client.write({ fd, data });
      const requests: Asked[] = [];
      for (const take of takes) {
        await server.answer(WRITE, (args) => {
          requests.push(asked(args));
          return written(take);
        });
      }
      const sum = takes.reduce((all: number, take) => all + take, 0);
      t.is(await writing, sum, what);
      t.deepEqual(
        requests.map(({ offset, size }) => [offset, size]),
        takes.map((_take, nth) => [nth * DEVICE_MOST, nth === 0 ? DEVICE_MOST : 100]),
        what,
      );
      const came = concat(...requests.map((request) => request.data));
      t.is(firstDifference(came, data.subarray(0, came.length)), undefined, `${what}: the data`);
    }
    await server.close(client, fd);
  },
);
