/* A Modbus server on libmodbus, the reference: answers as unit ID with the registers it is told, and 64 coils.
   usage: modbus_server DEVICE BAUD PARITY(N|E|O) UNIT ADDRESS VALUE...   (input and holding registers from ADDRESS)
          modbus_server tcp PORT - - ADDRESS VALUE...                      (any unit; one connection after the other)
   Prints "ready" when it listens; ends with its standard input. */
#include <errno.h>
#include <modbus/modbus.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH]; /* the longer one */
    int listener = -1;

    if (argc < 7) {
        fprintf(stderr, "usage: %s DEVICE BAUD PARITY UNIT ADDRESS VALUE...\n", argv[0]);
        return 2;
    }
    int tcp = !strcmp(argv[1], "tcp"), connected = !tcp;
    modbus_t *server =
        tcp ? modbus_new_tcp("127.0.0.1", atoi(argv[2])) : modbus_new_rtu(argv[1], atoi(argv[2]), argv[3][0], 8, 1);
    int address = atoi(argv[5]), count = argc - 6;
    modbus_mapping_t *map = modbus_mapping_new_start_address(0, 64, 0, 64, address, count, address, count);
    if (!server || !map || (tcp ? (listener = modbus_tcp_listen(server, 1)) < 0
                                : modbus_set_slave(server, atoi(argv[4])) || modbus_connect(server))) {
        fprintf(stderr, "modbus_server: %s: %s\n", argv[1], modbus_strerror(errno));
        return 1;
    }
    for (int i = 0; i < count; i++)
        map->tab_registers[i] = map->tab_input_registers[i] = (uint16_t) strtoul(argv[6 + i], NULL, 0);
    for (int i = 0; i < 64; i++)
        map->tab_input_bits[i] = i % 3 == 0;
    modbus_set_indication_timeout(server, 0, 200000);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd input = { .fd = 0, .events = POLLIN };
        if (poll(&input, 1, 0) != 0)
            break; /* the test has closed our standard input */
        if (!connected) {
            struct pollfd caller = { .fd = listener, .events = POLLIN };
            connected = poll(&caller, 1, 200) > 0 && modbus_tcp_accept(server, &listener) >= 0;
            continue;
        }
        int length = modbus_receive(server, query);
        if (length > 0)
            modbus_reply(server, query, length, map);
        else if (tcp && errno != ETIMEDOUT) {
            modbus_close(server); /* the client has gone */
            connected = 0;
        }
    }
    modbus_close(server);
    return 0;
}
