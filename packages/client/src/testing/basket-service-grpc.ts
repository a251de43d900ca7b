import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { BasketService as service } from "./basket-service.js";

const { input, output } = service.method.getBasket;

/** The service of the README's examples, as a generator for grpc-js would describe it. */
export const BasketService: ServiceDefinition = {
  getBasket: {
    path: `/${service.typeName}/GetBasket`,
    requestStream: false,
    responseStream: false,
    requestSerialize: (request) => Buffer.from(toBinary(input, create(input, request))),
    requestDeserialize: (bytes) => fromBinary(input, bytes),
    responseSerialize: (response) => Buffer.from(toBinary(output, create(output, response))),
    responseDeserialize: (bytes) => fromBinary(output, bytes),
  },
};
