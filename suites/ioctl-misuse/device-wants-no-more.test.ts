import { concat, pattern } from '../lib/bytes.ts';
import { askedBy, DeviceServer, needsDevices } from '../lib/device-server.ts';
import { guestTest } from '../lib/guest-test.ts';
import { askAgain, ioctlAnswer } from '../lib/ioctl-answer.ts';

/** include/uapi/linux/fuse.h */
const IOCTL = 39;
/** Without direction and size: nothing comes along by itself. */
const REQUEST = 0x6701;

guestTest(
  'a server of a device that wants nothing to read any more is told what is asked',
  async (t, guest) => {
    await needsDevices(guest);
    await using client = await guest.client();
    await using server = await DeviceServer.start(guest);
    const fd = await server.open(client);
    const memory = pattern(64, 3);
    const call = client.ioctl({ fd, request: REQUEST, arg: memory });
    const [first] = await server.serve([({ arg }) => askAgain([[arg, 16]])]);
    const at = first?.arg ?? 0n;
    await server.serve([() => askAgain([], [[at, 8]])]);
    const out = pattern(8, 5);
    let told: unknown;
    await server.answer(IOCTL, (body) => {
      const { fh, command, arg, inSize, outSize } = askedBy(body);
      told = { fh, command, arg, inSize, outSize };
      return ioctlAnswer(42, out);
    });
    t.deepEqual(told, { fh: 1n, command: REQUEST, arg: at, inSize: 0, outSize: 8 }, 'the third request');
    t.deepEqual(await call, { ret: 42, arg: concat(out, memory.subarray(8)) }, 'what the caller has then');
    await server.close(client, fd);
  },
);
